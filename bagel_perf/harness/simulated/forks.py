"""Forked processes: CUDA serves none whose parent used it already, and neither does the simulated device."""

from __future__ import annotations

import functools
import os
from typing import NoReturn


def refuse_in_child() -> NoReturn:
    """Raises what CUDA raises, with its words."""
    raise RuntimeError(
        "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the 'spawn' "
        "start method"
    )


@functools.cache
def watch_forks() -> None:
    """Has the device of each process that is forked from now on know that it is another's copy."""
    os.register_at_fork(after_in_child=_after_in_child)


def _after_in_child() -> None:
    from bagel_perf.harness.simulated.device import active_device

    device = active_device()
    if device is not None:
        device.forked()
