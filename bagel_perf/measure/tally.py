"""Counts what a run does besides waiting: calls of its regions, operators, copies, side streams, threads, by stage."""

from __future__ import annotations

import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

import torch

from bagel_perf.measure.settings import Watched
from bagel_perf.rules import torch_names
from bagel_perf.simulated.device import SimulatedDevice
from bagel_perf.simulated.patches import Patches
from bagel_perf.simulated.watch import is_composite
from bagel_perf.syncs.frames import Folders, Lines, readable_path
from bagel_perf.syncs.regions import current_region, recording

_PRODUCTS = frozenset(
    ("mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot", "addr", "ger", "linear", "mkldnn_linear")
)
_ATTENTION = ("scaled_dot_product", "flash_attention", "efficient_attention")
_FREE = frozenset(("_local_scalar_dense", "detach", "lift_fresh", "alias", "set_", "resize_", "record_stream"))
"""Operators that start nothing on a device; those that only make a view or take memory are known by their schema."""

_COMPOSITE: Any = torch_names.COMPOSITE_KEY.find()

_Spot = tuple[str, CodeType | None, int]
"""Name, code and line of a counter; None and 0 where it has no line."""


@lru_cache(maxsize=8192)
def family_of(operator: Any) -> str:
    """What an operator counts as once torch has taken its composites apart; "" for one that starts nothing."""
    schema = operator._schema
    name = schema.name.partition("::")[2].removeprefix("_")
    if name in _FREE or name.startswith(("empty", "new_empty")) or schema.name.partition("::")[2] in _FREE:
        return ""
    if any(part in name for part in _ATTENTION):
        return "attentions"
    if name in _PRODUCTS or name.endswith(("_mm", "_mv")):
        return "products"
    if "conv" in name and "convert" not in name:
        return "convolutions"
    if torch.Tag.nondeterministic_seeded in operator.tags:
        return "random numbers"
    is_view = any(each.alias_info is not None and not each.alias_info.is_write for each in schema.returns)
    return "" if is_view else "operators"


class Tally:
    """Counts by the outermost region, and then by name; what happens outside of regions is not counted.

    ``stage`` is the one of threads that opened no region, where somebody says which one runs. With ``by_line``
    operators are counted by the line that called them, as side streams and threads always are; regions are not.
    """

    def __init__(self, *, by_line: bool = False, watched: Watched | None = None) -> None:
        self.stage = ""
        self._watched = watched
        self._by_line = by_line
        self._counts: defaultdict[str, Counter[_Spot]] = defaultdict(Counter)
        self._lock = threading.RLock()  # collecting garbage inside may run a finalizer that counts
        self._folders = Folders()
        self._lines = Lines()

    def add(self, name: str) -> None:
        """One more, in the stage that runs now."""
        self._add((name, None, 0))

    def add_at(self, name: str, innermost: FrameType) -> None:
        """One more, with the line that asks; a thread that has none of the program has that of the main thread."""
        frame = self._folders.caller_of(innermost)
        if frame is None:
            frame = self._folders.caller_of(sys._current_frames().get(threading.main_thread().ident or 0))
        self._add((name, None, 0) if frame is None else (name, frame.f_code, self._lines.of(frame)))

    def add_operator(self, family: str, innermost: FrameType) -> None:
        """One more of a family of operators."""
        if self._watched is not None:
            self._watched.look()
        if self._by_line:
            self.add_at(family, innermost)
        elif family not in ("operators", "random numbers"):
            self.add(family)

    def _add(self, spot: _Spot) -> None:
        path = current_region()
        stage = path[0] if path else self.stage
        if stage:
            with self._lock:
                self._counts[stage][spot] += 1

    def open(self, name: str) -> AbstractContextManager[object]:
        """As a sink of regions: a region that is entered is called once."""
        self.add(f"calls of {name}")
        return nullcontext()

    @property
    def by_stage(self) -> dict[str, Counter[str]]:
        """The counts so far, by stage and name; lines are in the names, as ``NAME at FILE:LINE in FUNCTION``."""
        found: dict[str, Counter[str]] = {}
        with self._lock:
            for stage, counts in self._counts.items():
                named = found[stage] = Counter()
                for (name, code, line), count in counts.items():
                    named[name if code is None else f"{name} at {_place(code, line)}"] += count
        return found


def _place(code: CodeType, line: int) -> str:
    return f"{readable_path(code.co_filename)}:{line} in {code.co_qualname}"


@contextmanager
def tallying(
    simulated: SimulatedDevice | None = None, *, by_line: bool = False, watched: Watched | None = None
) -> Iterator[Tally]:
    """Counts until the end of the context, on this thread and those that it starts.

    ``watched`` looks at each operator and region. Copies, side streams by whatever name, and remarks are heard
    where that is a simulated one.
    """
    tally = Tally(by_line=by_line, watched=watched)
    with ExitStack() as stack:
        if simulated is None:
            stack.enter_context(_side_streams(tally))
        else:
            stack.enter_context(
                simulated.copies_to(lambda is_download, _bytes, _waits: tally.add(_direction(is_download)))
            )
            stack.enter_context(simulated.moves_to(lambda: tally.add_at("side streams", sys._getframe(1))))
        if simulated is not None and by_line:
            stack.enter_context(simulated.remarks_to(_remarks(tally)))
        stack.enter_context(recording(*(each for each in (tally, watched) if each is not None)))
        stack.enter_context(_threads(tally))
        stack.enter_context(_Operators(tally))
        yield tally


def _direction(is_download: bool) -> str:
    return "downloads" if is_download else "uploads"


def _remarks(tally: Tally) -> Callable[[str, str], None]:
    words = {"hazards": "hazard", "unjudged": "nobody measured whether it waits"}

    def hear(what: str, name: str) -> None:
        if what in words:
            tally.add_at(f"{words[what]} ({name})", sys._getframe(1))

    return hear


class _Operators(torch_names.OperatorMode):
    """Sees what every call comes down to, so that another name for a product is a product."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if is_composite(func):  # whole under inference_mode alone
            with self:
                return func._op_dk(_COMPOSITE, *args, **(kwargs or {}))
        family = family_of(func)
        if family:
            self._tally.add_operator(family, sys._getframe(1))
        return func(*args, **(kwargs or {}))


def _threads(tally: Tally) -> Patches:
    """Counts threads by who starts them, and what they call; modes of torch are of one thread each."""
    start = threading.Thread.start

    def start_counted(thread: threading.Thread) -> None:
        state: Any = thread
        tally.add_at("threads", sys._getframe(1))
        state.run = _counted_run(tally, thread.run)
        start(thread)

    patches = Patches()
    patches.add(threading.Thread, "start", start_counted)
    return patches


def _counted_run(tally: Tally, run: Callable[[], None]) -> Callable[[], None]:
    def run_counted() -> None:
        with _Operators(tally):
            run()

    return run_counted


def _side_streams(tally: Tally) -> Patches:
    """Counts whoever moves work to another stream than the one that a stage is timed on."""
    patches = Patches()
    for owner, name in ((torch.cuda, "stream"), (torch.cuda, "set_stream"), (torch.cuda.Stream, "__enter__")):
        patches.add(owner, name, _counted(tally, getattr(owner, name, None)), only_present=True)
    return patches


def _counted(tally: Tally, real: Any) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        asking = sys._getframe(1)
        if not asking.f_globals["__name__"].startswith("torch."):  # torch's own contexts set streams, too
            tally.add_at("side streams", asking)
        return real(*args, **kwargs)

    return counted
