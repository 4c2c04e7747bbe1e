"""Counts what a run does besides waiting: calls of its regions, products, copies between host and device, by stage."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from bagel_perf.harness.regions import current_region, recording
from bagel_perf.harness.simulated.device import SimulatedDevice

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
        stack.enter_context(_streams(tally))
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


@contextmanager
def _streams(tally: Tally) -> Iterator[None]:
    """Work on another stream than the one that a stage is timed on."""
    real: Callable[..., Any] = torch.cuda.stream

    def stream(*args: Any, **kwargs: Any) -> Any:
        tally.add("side streams")
        return real(*args, **kwargs)

    torch.cuda.stream = stream
    try:
        yield
    finally:
        torch.cuda.stream = real
