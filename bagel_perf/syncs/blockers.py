"""Watches the entries of a region for what prevents a CUDA graph of it.

A graph is recorded once and replays the same launches with the same arguments. So what makes the host wait, and what
CUDA refuses under a capture, stops it; and what differs between entries (shapes, numbers, the path taken, tensors that
are others each time, random numbers that the host draws) is frozen as it was. What CUDA refuses was tried on an NVIDIA
H200, torch 2.11.0+cu130: waits, asynchronous copies of pageable memory, queries of events and streams, side streams
that are not joined, generators that are not registered, optimizers that are not capturable. Asynchronous copies of
pinned memory, allocations and ``empty_cache``, ``record_stream`` and torch's default generator were captured.

On the simulated device each call of torch is heard, on CUDA each operator. What no operator of torch shows is not seen:
kernels launched by other libraries and by compiled code, work on other threads, and what the region keeps in Python.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from types import FrameType
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from bagel_perf.records.blockers import CAPTURED, MIN_ENTRIES, CaptureReport
from bagel_perf.records.sites import HINTS, Kind
from bagel_perf.rules.calls import DOWNLOAD, UPLOAD
from bagel_perf.rules.operators import Args, Kwargs
from bagel_perf.simulated import active_device
from bagel_perf.simulated.tensor import hidden
from bagel_perf.syncs import capture_findings as texts
from bagel_perf.syncs.capture_calls import Entry, Spot, Spots, draws
from bagel_perf.syncs.capture_changes import changes
from bagel_perf.syncs.capture_findings import Findings, in_order, wait_blocker, warm_up_text
from bagel_perf.syncs.capture_sources import Source, crossing, hearing_cuda, hearing_simulated, host_tensors
from bagel_perf.syncs.capture_streams import Streams, events_to, queries_to
from bagel_perf.syncs.hearing import pass_of_this_thread
from bagel_perf.syncs.regions import Stack, current_region, region
from bagel_perf.syncs.sites import Place, SyncCollector, count_host_syncs
from bagel_perf.syncs.trials import Modes, can_try, host_generators, try_capture

P = ParamSpec("P")
R = TypeVar("R")
FEW = "shapes, numbers and inputs are compared between entries, so that it takes two or more of them to tell"
DEFAULT_GENERATOR = (
    "torch's default generator draws random numbers; torch.cuda.graph registers it, each replay draws anew"
)
PINNED = "asynchronous copies of pinned memory are captured: each replay copies from and to the same host addresses"
UNUSED = "no operator ran on the device in it"
BROKEN = "entries that ended in an exception are not compared"
MAX_NAMES = 3


@dataclass(slots=True, eq=False)
class _Open:
    """An entry that is open: whose it is, and what is known of it besides its operators."""

    watch: CaptureWatch
    entry: Entry
    streams: Streams
    path: str
    generators: dict[str, Any] = field(default_factory=host_generators)
    upload: bool | None = None
    """Whether a copy that is under way, and has not waited so far, is an upload."""
    side: Spot | None = None
    """Where work was last put on a side stream."""


_open: Stack[_Open] = Stack("capture")


class CaptureWatch:
    """What a watch has seen so far of the region that it is for; made by ``watch_capture``."""

    def __init__(self, name: str, source: Source) -> None:
        self._region = name
        self._source = source
        self._spots = Spots()
        self._findings = Findings(self._spots.texts)
        self._waits: dict[int, int] = {}
        self._last: Entry | None = None
        self._num_entries = self._num_broken = 0
        self._used = False
        self._seen: dict[str, None] = {}
        self._unjudged: Counter[str] = Counter()
        self._lock = threading.RLock()
        self._again: Callable[[], object] | None = None
        self._tried: str | None = None
        self.collector: SyncCollector | None = None

    def tries(self, function: Callable[P, R]) -> Callable[P, R]:
        """``function`` in the region; on a GPU its last call is tried under a capture when the watch ends.

        That calls it once more, with the same arguments, which are kept until then. No kernel runs, and states of
        random generators are put back; but what it does in Python is done again, and tensors that it keeps there then
        hold nothing that was computed. So give only a function whose program needs nothing of it after the watch.
        """

        @wraps(function)
        def in_region(*args: P.args, **kwargs: P.kwargs) -> R:
            modes = Modes()

            def again() -> None:
                with modes.again():
                    function(*args, **kwargs)

            self._again = again
            with region(self._region):
                return function(*args, **kwargs)

        return in_region

    def end(self) -> None:
        """Tries what ``tries`` was given, where there is a GPU, and lets go of it."""
        again, self._again = self._again, None
        if again is not None and can_try(self._source.device):
            self._tried = try_capture(again, self._source.device)

    def report(self, subject: str = "") -> CaptureReport:
        """All that was seen so far; may be asked at any time, ``subject`` says of what."""
        with self._lock:
            num_entries, unjudged = self._num_entries, dict(self._unjudged)
        waits, warm_waits = self._wait_blockers(num_entries)
        blockers = in_order((*waits, *self._findings.blockers(num_entries)))
        is_refused = self._tried not in (None, CAPTURED)
        is_known = num_entries >= MIN_ENTRIES and self._used and not unjudged
        return CaptureReport(
            region=self._region,
            device=self._source.name,
            num_entries=num_entries,
            blockers=blockers,
            is_capturable=False if blockers or is_refused else True if is_known else None,
            tried=self._tried,
            notes=(*warm_waits, *self._findings.warm_up(num_entries), *self._notes(num_entries, unjudged)),
            subject=subject,
        )

    def _wait_blockers(self, num_entries: int) -> tuple[list[Any], list[str]]:
        """The waits in the region; and sentences about those of the first entry alone."""
        assert self.collector is not None
        blockers, sentences = [], []
        for each in self.collector.counted():
            last = self._waits.get(each.number)
            if last is None:
                continue
            site = each.site()
            if num_entries >= texts.MIN_FOR_WARM_UP and last <= 1:
                sentences.append(warm_up_text(HINTS[site.kind].label, f"{site.file}:{site.line}" if site.file else ""))
            else:
                blockers.append(wait_blocker(site))
        return blockers, sentences

    def _notes(self, num_entries: int, unjudged: dict[str, int]) -> Iterator[str]:
        if not num_entries:
            yield "it was never entered" if not self._num_broken else "none of its entries came to its end"
        elif num_entries < MIN_ENTRIES:
            yield FEW
        if num_entries and not self._used:
            yield UNUSED
        if unjudged:
            more = f" and {len(unjudged) - MAX_NAMES} more" * (len(unjudged) > MAX_NAMES)
            yield f"cannot be judged without a GPU: {', '.join([*unjudged][:MAX_NAMES])}{more}"
        if self._num_broken:
            yield BROKEN
        yield from self._seen

    # What is heard, on the thread that it is about.

    @contextmanager
    def open(self, name: str) -> Iterator[None]:
        """One entry, if the region is the one that is watched; an entry inside an entry is a part of it."""
        if name != self._region or self._here() is not None:
            yield
            return
        with self._lock:
            number = self._num_entries + 1
        entry = Entry(number, self._source.on_device)
        # The region itself is not open yet.
        opened = _Open(self, entry, Streams(self._stream()), "/".join((*current_region(), name)))
        held, before = _open.push(opened), sys.exc_info()[1]
        try:
            with self._source.looking(self.called):
                yield
        finally:
            _open.let_go(held)
            if sys.exc_info()[1] is before:
                self._close(opened)
            else:  # no region passes on the exception that ends it
                with self._lock:
                    self._num_broken += 1

    def _stream(self) -> int:
        return cast(int, self._source.current_stream().cuda_stream)

    def _here(self) -> _Open | None:
        """The entry that this thread or task is in, or the one that a backward pass on this thread belongs to."""
        found = [each for each in _open.values() if each.watch is self]
        running = None if found else pass_of_this_thread()
        if running is not None:
            found = [each for each in running.context.copy().run(_open.values) if each.watch is self]
        return found[-1] if found else None

    def _close(self, opened: _Open) -> None:
        entry = opened.entry
        with self._lock:
            self._num_entries += 1
            self._used |= bool(entry.steps)
            if self._last is not None:
                for change in changes(self._last, entry):
                    self._findings.change(change, entry.number)
            self._last = entry
        if opened.streams.unjoined() and opened.side is not None:
            seen = ("the region does not wait for it",)
            self._findings.note("stream", "stops", opened.side, entry.number, texts.UNJOINED, seen)
        now = host_generators()
        for name, state in opened.generators.items():
            if now[name] != state:
                seen = (f"{name} draws while it is open",)
                spot = self._spots.of(None, opened.path)
                self._findings.note("random", "freezes", spot, entry.number, texts.HOST_DRAWN, seen, slot=name)

    def called(self, name: str, args: Args, kwargs: Kwargs, result: Any) -> None:
        """A call of torch has ended."""
        opened = self._here()
        if opened is None:
            return
        frame = sys._getframe(1)
        with hidden():
            uses_device = opened.entry.take(name, args, kwargs, result, lambda: self._spot(opened, frame))
            if draws(name, args, kwargs):
                self._drawn(opened, uses_device, kwargs.get("generator"), frame)
            if not uses_device:
                return
            stream = self._stream()
            if not opened.streams.works(stream):
                seen = ("its work is not in the graph: it did not wait for the region's",)
                self._find(opened, "stream", "freezes", texts.UNFORKED, frame, *seen)
            elif stream != opened.streams.main:
                opened.side = self._spot(opened, frame)
            self._copied(opened, name, args, kwargs, result, frame)

    def _spot(self, opened: _Open, frame: FrameType | None) -> Spot:
        running = pass_of_this_thread()
        path = "/".join(current_region()) or opened.path
        return self._spots.of(frame if running is None else running.frame, path)

    def _find(self, opened: _Open, kind: Any, effect: Any, remedy: str, frame: FrameType | None, *seen: str) -> None:
        self._findings.note(kind, effect, self._spot(opened, frame), opened.entry.number, remedy, seen)

    def _drawn(self, opened: _Open, uses_device: bool, generator: Any, frame: FrameType) -> None:
        if not uses_device:
            self._find(opened, "random", "freezes", texts.HOST_DRAWN, frame, "drawn on the host")
        elif generator is None or generator in torch.cuda.default_generators or generator is torch.default_generator:
            self._seen[DEFAULT_GENERATOR] = None
        else:
            self._find(opened, "random", "stops", texts.UNREGISTERED, frame, "a generator of its own")

    def _copied(self, opened: _Open, name: str, args: Args, kwargs: Kwargs, result: Any, frame: FrameType) -> None:
        """An asynchronous copy between host and device, if this is one: those that wait are counted as waits."""
        found = crossing(name, args, kwargs, result) if self._source.simulated is None else None
        if found is not None:
            opened.upload = found.is_upload
            if found.hazard is not None:
                self._staged(opened, found.hazard, frame)
        if opened.upload is None:
            return
        is_upload, opened.upload = opened.upload, None
        tensors = host_tensors((*args, *kwargs.values()), self._source.on_device)
        if is_upload and any(map(opened.entry.made, tensors)):
            seen = "the region makes the host memory that is copied; a replay finds what is there by then"
            self._find(opened, "copy", "freezes", texts.HOST_MADE, frame, seen)
        else:
            self._seen[PINNED] = None

    def _staged(self, opened: _Open, hazard: str, frame: FrameType | None) -> None:
        opened.upload = None
        self._find(opened, "copy", "stops", texts.STAGED, frame, hazard)

    def copied(self, is_download: bool, num_bytes: int | None, waits: bool) -> None:
        """Values are copied between host and device now, on the simulated device."""
        opened = self._here()
        if opened is not None:
            opened.upload = not is_download

    def remarked(self, what: str, name: str) -> None:
        """The simulated device remarks something."""
        opened = self._here()
        if opened is None:
            return
        if what == "unjudged":
            with self._lock:
                self._unjudged[name] += 1
        elif what == "hazards" and name in (UPLOAD, DOWNLOAD):
            with hidden():
                self._staged(opened, name, sys._getframe(1))

    def waited(self, number: int, kind: Kind, place: Place) -> None:
        """The host waits."""
        opened = self._here()
        if opened is None:
            return
        opened.upload = None
        with self._lock:
            self._waits[number] = max(opened.entry.number, self._waits.get(number, 0))

    def event(self, event: Any, stream: Any, is_record: bool) -> None:
        """A stream records an event, or waits for one."""
        opened = self._here()
        if opened is not None and not opened.streams.event(event, stream.cuda_stream, is_record):
            with hidden():
                seen = "the region waits for work that is not in the graph"
                self._find(opened, "stream", "stops", texts.ISOLATED, sys._getframe(1), seen)

    def stepped(self, optimizer: torch.optim.Optimizer, args: Args, kwargs: Kwargs) -> None:
        """An optimizer takes a step; under a capture torch refuses that of one that could keep its numbers there."""
        opened = self._here()
        if opened is not None and not all(group.get("capturable", True) for group in optimizer.param_groups):
            with hidden():
                seen = f"{type(optimizer).__name__} is not capturable"
                self._find(opened, "optimizer", "stops", texts.REMEDIES["optimizer"], sys._getframe(1), seen)

    def queried(self) -> None:
        """The host asks whether an event or a stream is done."""
        opened = self._here()
        if opened is not None:
            with hidden():
                self._find(opened, "query", "stops", texts.REMEDIES["query"], sys._getframe(1))


@contextmanager
def watch_capture(name: str, device: torch.device | str = "cuda") -> Iterator[CaptureWatch]:
    """Watches the entries of all regions of this name until the end of the context, for what prevents a CUDA graph.

    ``device`` is a CUDA device or that of an open ``SimulatedDevice``; other watches may be open beside it. Raises
    ValueError for an empty name, and like ``count_host_syncs`` for a device.
    """
    if not name:
        raise ValueError("watch_capture takes the name of a region; mark one: with region('step'): ...")
    device = torch.device(device)
    simulated = active_device()
    if simulated is not None and not simulated.owns(device):
        simulated = None
    source = hearing_cuda(device) if simulated is None else hearing_simulated(simulated)
    watch = CaptureWatch(name, source)
    with ExitStack() as stack:
        collector = watch.collector = stack.enter_context(count_host_syncs(device, watch))
        collector.on_wait = (*collector.on_wait, watch.waited)
        stack.enter_context(events_to(watch.event, source.current_stream))
        stack.enter_context(queries_to(watch.queried))
        stack.callback(register_optimizer_step_pre_hook(watch.stepped).remove)
        stack.enter_context(source.listening(watch.called))
        if simulated is not None:
            stack.enter_context(simulated.copies_to(watch.copied))
            stack.enter_context(simulated.remarks_to(watch.remarked))
        yield watch
    watch.end()
