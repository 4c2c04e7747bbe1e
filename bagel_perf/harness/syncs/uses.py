"""Notices whether anything ran on the device.

A program that never used it waits for nothing, and that proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from bagel_perf.harness.simulated import SimulatedDevice

Notice = Callable[[bool | None], bool]
"""Called with True when the device is used, with None where that cannot be told; gives whether that was news enough."""
Noticing = Callable[[Notice], AbstractContextManager[None]]
"""Has a function called at uses of the device, on the thread that uses it where that is known, until it gives True."""


def uses_of_simulated(device: SimulatedDevice) -> Noticing:
    """Of the simulated device, which sees every call."""
    return lambda notice: device.uses_to(lambda: notice(True))


def uses_of_cuda(allocations: Callable[[], tuple[int, int]] | None = None) -> Noticing:
    """Of CUDA devices, by allocations: (how many so far, how many live).

    Without any, before or since, nothing can have run there; what works in place on memory that was there before
    cannot be told from nothing.
    """
    read = allocations or _allocations

    @contextmanager
    def noticing(notice: Notice) -> Iterator[None]:
        num_before, num_live_before = read()
        try:
            yield
        finally:
            num_after, num_live = read()
            if num_after != num_before:
                notice(True)
            elif num_live or num_live_before:
                notice(None)

    return noticing


def _allocations() -> tuple[int, int]:
    stats = [torch.cuda.memory_stats(number) for number in range(torch.cuda.device_count())]
    num, num_live = (sum(each.get(f"allocation.all.{name}", 0) for each in stats) for name in ("allocated", "current"))
    return num, num_live
