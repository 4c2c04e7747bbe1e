"""Attributes waits inside a backward pass to the line that asked for it.

On CUDA autograd runs on threads of its own, which have no Python frame and know no region. The thread that called
``backward`` waits for them, so while it does, its frame and its context stand in for theirs.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from types import FrameType
from typing import Any
from unittest import mock

from bagel_perf.harness import torch_names
from bagel_perf.harness.shared import Shared


@dataclass(frozen=True, slots=True, eq=False)
class BackwardPass:
    """A backward pass under way: the frame that called torch for it, and the context of that thread or task."""

    frame: FrameType
    context: contextvars.Context


_under_way: list[BackwardPass] = []


@contextmanager
def _noting() -> Iterator[None]:
    place = torch_names.ENGINE_RUN_BACKWARD.place()
    if place is None:  # such waits stay without a line
        yield
        return
    original: Any = getattr(*place)

    @wraps(original)
    def run_backward(*args: Any, **kwargs: Any) -> Any:
        running = BackwardPass(sys._getframe(1), contextvars.copy_context())
        _under_way.append(running)
        try:
            return original(*args, **kwargs)
        finally:
            _under_way.remove(running)

    with mock.patch.object(*place, run_backward):
        yield


observing_backward = Shared(_noting)
"""A context in which each backward pass is noted."""


def pass_of_this_thread() -> BackwardPass | None:
    """The latest backward pass under way, if this is a thread that Python did not start, as autograd's are."""
    if not _under_way or not isinstance(threading.current_thread(), threading._DummyThread):
        return None
    with suppress(IndexError):  # it may just have ended
        return _under_way[-1]
    return None
