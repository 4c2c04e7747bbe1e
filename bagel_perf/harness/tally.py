"""Counts what a run does besides waiting: calls of its regions, products, copies between host and device, by stage."""

from __future__ import annotations

import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from bagel_perf.harness.regions import current_region, recording
from bagel_perf.harness.simulated.device import SimulatedDevice
from bagel_perf.harness.simulated.patches import Patches
from bagel_perf.harness.syncs.frames import Folders, line_of

FAMILIES = {
    "products": ("mm", "addmm", "bmm", "baddbmm", "linear", "matmul", "__matmul__", "__rmatmul__", "einsum"),
    "attentions": ("scaled_dot_product_attention", "_flash_attention_forward"),
    "convolutions": ("conv2d",),
}
"""Calls from Python, which do not depend on how a version of torch takes them apart."""

_FAMILY_OF = {name: family for family, names in FAMILIES.items() for name in names}


class Tally:
    """Counts by the outermost region, and then by name; what happens outside of regions is not counted."""

    def __init__(self) -> None:
        self.by_stage: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._lock = threading.Lock()

    def add(self, name: str) -> None:
        """One more, in the stage that runs now."""
        path = current_region()
        if path:
            with self._lock:
                self.by_stage[path[0]][name] += 1

    def open(self, name: str) -> AbstractContextManager[object]:
        """As a sink of regions: a region that is entered is called once."""
        self.add(f"calls of {name}")
        return nullcontext()


@contextmanager
def tallying(simulated: SimulatedDevice | None = None) -> Iterator[Tally]:
    """Counts on this thread until the end of the context; copies where there is a simulated device to hear them."""
    tally = Tally()
    with ExitStack() as stack:
        if simulated is not None:
            stack.enter_context(simulated.copies_to(lambda is_download: tally.add(_direction(is_download))))
        stack.enter_context(recording(tally))
        stack.enter_context(_Families(tally))
        stack.enter_context(_side_streams(tally))
        yield tally


def _direction(is_download: bool) -> str:
    return "downloads" if is_download else "uploads"


class _Families(TorchFunctionMode):
    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        family = _FAMILY_OF.get(getattr(func, "__name__", ""))
        if family is not None:
            self._tally.add(family)
        return func(*args, **(kwargs or {}))


def _side_streams(tally: Tally) -> Patches:
    """Counts whoever moves work to another stream than the one that a stage is timed on."""
    patches = Patches()
    for owner, name in ((torch.cuda, "stream"), (torch.cuda, "set_stream"), (torch.cuda.Stream, "__enter__")):
        patches.add(owner, name, _counted(tally, getattr(owner, name, None)), only_present=True)
    return patches


def _counted(tally: Tally, real: Any) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        if not sys._getframe(1).f_globals["__name__"].startswith("torch."):  # torch's own contexts set streams, too
            tally.add(f"side streams at {_place()}")
        return real(*args, **kwargs)

    return counted


def _place() -> str:
    """The line that asks, a part of the counter's name; where counts are held to expected ones, none has one."""
    frame = Folders().user_frame(sys._getframe(1))
    if frame is None:
        return "no line of Python"
    return f"{line_of(frame)} in {frame.f_code.co_qualname}"
