"""Counts host syncs on the device that a program uses, and collects them by the line of the program that made them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import CodeType

import torch
from msgspec.structs import replace

from bagel_perf.records.copies import DIRECTIONS, CopySite
from bagel_perf.records.ledger import Ledger
from bagel_perf.records.sites import Kind, Phase, SyncSite
from bagel_perf.rules.expressions import Expressions
from bagel_perf.simulated import SimulatedDevice, active_device
from bagel_perf.syncs.calls import bytes_of_wait, logging_calls, operator_of_wait
from bagel_perf.syncs.copying import Copy, CopyListener, CopyNews, CopyTally
from bagel_perf.syncs.cuda import listening_to_cuda, require_callbacks, tell_staged
from bagel_perf.syncs.frames import FileNames, Lines
from bagel_perf.syncs.hearing import Details, Reaction, Wait, hearing, observing_backward
from bagel_perf.syncs.regions import Sink, recording
from bagel_perf.syncs.targets import NOWHERE, Target, noting_targets, target_of_cuda


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a thread was when it waited: the innermost frame outside torch, and the innermost outside libraries.

    Codes are None where no such frame was on the stack. ``number`` counts the places of a collector.
    """

    number: int
    code: CodeType | None
    line: int
    caller: CodeType | None
    caller_line: int
    region: tuple[str, ...]
    allowed: str | None
    is_setup: bool = False
    target: Target = NOWHERE
    phase: Phase = ""


class Texts:
    """What reports say of code: names of files and texts of expressions, each found once."""

    def __init__(self) -> None:
        self.names = FileNames()
        self.expressions = Expressions()


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """The waits of one kind at one place; ``number`` counts such pairs in the order of their first wait.

    ``instructions`` are offsets into the byte code of the expressions that waited, ``held_ms`` is the time of staged
    copies.
    """

    number: int
    kind: Kind
    place: Place
    count: int
    instructions: tuple[int, ...]
    texts: Texts
    held_ms: float = 0.0

    def site(self) -> SyncSite:
        """As reports show it."""
        site = site_of(self.kind, self.place, self.count, self.instructions, self.texts)
        if self.kind != "staged_copy":
            return site
        return replace(site, blocked_ms=self.held_ms, predicted_saving_ms=(0.0, self.held_ms))


Listener = Callable[[int, Kind, Place], None]
"""(number of the kind and place, kind, place), called on the waiting thread before it waits."""
Judge = Callable[[Wait, Place], Reaction | None]
"""Says what the waiting thread has to do about a wait that has just been counted."""


class _Tally:
    __slots__ = ("count", "held_ms", "instructions", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.count = 0
        self.held_ms = 0.0
        self.instructions: dict[int, None] = {}


class SyncCollector:
    """Takes in waits from any thread; ``sites`` and ``total`` may be asked for at any time.

    ``counts_here`` says whether those of the thread that asks count, ``num_elsewhere`` is how many did not.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.on_wait: tuple[Listener, ...] = ()
        self.judges: tuple[Judge, ...] = ()
        self.counts_here: Callable[[], bool] = lambda: True
        self.num_elsewhere = 0
        self._tallies: dict[tuple[Kind, int], _Tally] = {}
        # Keyed by the identity of code objects, whose own hash reads all of their byte code.
        self._places: dict[tuple[object, ...], Place] = {}
        # Of the kind that a thread may take twice: collecting garbage inside may run a finalizer that waits.
        self._lock = threading.RLock()
        self._texts = Texts()
        self._lines = Lines()
        self._copies = CopyTally()
        self.sees_copies = True

    def take(self, wait: Wait) -> Reaction | None:
        """Counts one wait."""
        if not self.counts_here():
            with self._lock:
                self.num_elsewhere += 1
            return None
        with self._lock:
            place = self._place_of(wait)
            tally = self._tallies.get((wait.kind, place.number))
            if tally is None:
                tally = self._tallies[wait.kind, place.number] = _Tally(len(self._tallies))
            tally.count += 1
            tally.held_ms += wait.held_ms
            if wait.frame is not None:
                tally.instructions[wait.frame.f_lasti] = None
            if wait.kind in DIRECTIONS:
                self._copies.add(DIRECTIONS[wait.kind], wait.num_bytes, place, is_waited=True)
        for listener in self.on_wait:
            listener(tally.number, wait.kind, place)
        reactions = [judge(wait, place) for judge in self.judges]
        return next(filter(None, reactions), None)

    def take_copy(self, copy: Copy) -> None:
        """Counts a copy of which no wait tells."""
        with self._lock:
            place = self._place_of(Wait("unknown", copy.frame, copy.caller, copy.region, None))
            self._copies.add(copy.direction, copy.num_bytes, place, is_waited=copy.is_held)

    def tell_copies(self, ledger: Ledger) -> None:
        """Has a ledger told of the copies, where anybody looks for them."""
        if self.sees_copies:
            ledger.slot({"sees_copies": True})
            self._copies.tell(ledger, self._texts.names.of)

    def copies(self) -> tuple[CopySite, ...] | None:
        """The copies so far, most bytes first; None where nobody looks for them."""
        with self._lock:
            return self._copies.sites(self._texts.names.of) if self.sees_copies else None

    def _place_of(self, wait: Wait) -> Place:
        frame, caller = wait.frame, wait.caller
        code, line = (frame.f_code, self._lines.of(frame)) if frame is not None else (None, 0)
        caller_code, caller_line = (caller.f_code, self._lines.of(caller)) if caller is not None else (None, 0)
        region, allowed, is_setup, target, phase = wait.region, wait.allowed, wait.is_setup, wait.target, wait.phase
        key = (id(code), line, id(caller_code), caller_line, region, allowed, is_setup, target, phase)
        place = self._places.get(key)
        if place is None:
            here = (code, line, caller_code, caller_line)
            place = Place(len(self._places), *here, region, allowed, is_setup, target, phase)
            self._places[key] = place
        return place

    def instruction_of(self, number: int) -> int | None:
        """The first instruction that waited at a place, as an offset into its byte code; None without a frame."""
        with self._lock:
            tally = next(each for each in self._tallies.values() if each.number == number)
            return next(iter(tally.instructions), None)

    def total(self) -> int:
        """Waits so far."""
        with self._lock:
            return sum(tally.count for tally in self._tallies.values())

    def counted(self) -> list[Counted]:
        """The waits so far by kind and place, most frequent first."""
        with self._lock:
            places = list(self._places.values())
            found = [
                Counted(
                    tally.number,
                    kind,
                    places[number],
                    tally.count,
                    tuple(tally.instructions),
                    self._texts,
                    tally.held_ms,
                )
                for (kind, number), tally in self._tallies.items()
            ]
        return sorted(found, key=lambda each: -each.count)

    def sites(self) -> tuple[SyncSite, ...]:
        """The waits so far by kind, line, region and reason, most frequent first."""
        return self.sites_of(self.counted())

    def sites_of(self, counted: Sequence[Counted]) -> tuple[SyncSite, ...]:
        """Waits that ``counted`` gave, as reports show them; what was read of their sources is let go."""
        sites = tuple(each.site() for each in counted)
        self._texts.expressions.let_go()
        return sites


def site_of(kind: Kind, place: Place, count: int, instructions: Sequence[int], texts: Texts) -> SyncSite:
    """``count`` waits of a kind at a place."""
    code, caller, name = place.code, place.caller, texts.names.of
    has_caller = caller is not None and (caller is not code or place.caller_line != place.line)
    expressions, around = texts.expressions.at(code, instructions)
    return SyncSite(
        kind=kind,
        file=name(code.co_filename) if code else "",
        line=place.line,
        function=code.co_qualname if code else "",
        region="/".join(place.region),
        count=count,
        allowed=place.allowed,
        expressions=expressions,
        caller=f"{name(caller.co_filename)}:{place.caller_line}" if caller and has_caller else None,
        around=tuple(sorted(around)),
        is_setup=place.is_setup,
        device=place.target.device,
        at_work_on=place.target.at_work_on,
        library=place.target.library,
        phase=place.phase,
    )


_cuda_copies = CopyNews()
_OF_CUDA = Details(
    copies_to=_cuda_copies.to,
    num_bytes=bytes_of_wait,
    target_of=lambda innermost, frame: target_of_cuda(innermost, frame, operator_of_wait()),
)


def _unheard_copies(simulated: SimulatedDevice) -> Callable[[CopyListener], AbstractContextManager[object]]:
    """Those that no wait tells of."""

    def copies_to(listener: CopyListener) -> AbstractContextManager[object]:
        def hear(is_download: bool, num_bytes: int | None, waits: bool) -> None:
            if not waits:
                listener(is_download, num_bytes, False)

        return simulated.copies_to(hear)

    return copies_to


@contextmanager
def count_host_syncs(device: torch.device | str, *sinks: Sink) -> Iterator[SyncCollector]:
    """Counts the host's waits of all threads until the end of the context.

    ``device`` is a CUDA device, and then waits for any CUDA device count, or the device of the ``SimulatedDevice``
    whose context is open. ``sinks`` are told of the regions that open. Raises ValueError for any other, and
    RuntimeError where CUDA's callbacks do not fire.
    """
    device = torch.device(device)
    simulated = active_device()
    if simulated is not None and simulated.owns(device):
        collector = SyncCollector("simulated")
        details = Details(copies_to=_unheard_copies(simulated), num_bytes=simulated.bytes_of_wait)
        with recording(*sinks), hearing(collector, simulated, simulated.listening, details):
            yield collector
        return
    if device.type != "cuda":
        raise ValueError(
            f"no host waits for {device}; give a CUDA device, or open a SimulatedDevice and give its device"
        )
    require_callbacks()
    collector = SyncCollector(device.type)
    with (
        recording(*sinks),
        observing_backward,
        noting_targets,
        logging_calls(tell_staged, _cuda_copies.tell) as is_logging,
        hearing(collector, "cuda", listening_to_cuda, _OF_CUDA),
    ):
        collector.sees_copies = is_logging
        yield collector
