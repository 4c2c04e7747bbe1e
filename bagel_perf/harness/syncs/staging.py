"""Measures asynchronous copies that the driver stages: one that outlasts the work queued before it has waited for it.

Such a copy makes no synchronizing call, so callbacks, warnings and CUPTI's waits know nothing of it. Only its length
tells, and that the queue, busy before the call, was empty after it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bagel_perf.harness.rules.copies import staged_copy

Tell = Callable[[], None]


class _OfThread(threading.local):
    held_ms = 0.0


_of_thread = _OfThread()


def take_held_ms() -> float:
    """How long the staged copy took that this thread has just been told of."""
    held_ms, _of_thread.held_ms = _of_thread.held_ms, 0.0
    return held_ms


def may_be_staged(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a torch function copies through memory of the driver's, while no graph is recorded."""
    if name not in ("copy_", "to", "cuda"):
        return False
    is_staged = staged_copy(name, args, kwargs, _on_device, Tensor.is_pinned) is not None
    return is_staged and not torch.cuda.is_current_stream_capturing()


def run_timed(call: Callable[[], Any], tell: Tell) -> Any:
    """Makes a copy; calls ``tell`` where the host was held until what was queued before it was done."""
    queued = torch.cuda.Event()
    queued.record()
    was_busy = not queued.query()
    begun_s = time.perf_counter()
    result = call()
    held_ms = (time.perf_counter() - begun_s) * 1e3
    if was_busy and queued.query():
        _of_thread.held_ms = held_ms
        tell()
    return result


def _on_device(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_cuda
