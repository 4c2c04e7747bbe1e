"""Threads started while the device is open see it too: torch's modes are of one thread each."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bagel_perf.harness.simulated.patches import Patches

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice


def patch_threads(patches: Patches, device: SimulatedDevice) -> None:
    """Every thread that is started runs with the device's mode, also those of pools; threads already running do not."""
    start = threading.Thread.start

    @functools.wraps(start)
    def start_inside(thread: threading.Thread) -> None:
        state: Any = thread
        state.run = _inside(device, thread.run)
        start(thread)

    patches.add(threading.Thread, "start", start_inside)


def _inside(device: SimulatedDevice, run: Callable[[], None]) -> Callable[[], None]:
    def run_inside() -> None:
        with device.intercepting():
            run()

    return run_inside
