"""Takes the NVTX ranges that a program opens by itself for regions.

A program that was annotated for Nsight Systems, through ``torch.cuda.nvtx`` or the package ``nvtx``, so needs no other
names. Not seen are ranges that start on one thread and end on another, functions that were decorated or imported by
name before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch.cuda.nvtx

from bagel_perf.syncs.regions import Shared, is_marking, region


class _Ranges(threading.local):
    """The regions that this thread's ranges opened, innermost last."""

    def __init__(self) -> None:
        self.open: list[AbstractContextManager[None]] = []
        self.patches: object = None

    def of(self, patches: object) -> list[AbstractContextManager[None]]:
        """Those that were opened since the functions were replaced last; older ones are popped elsewhere, or never."""
        if self.patches is not patches:
            self.open, self.patches = [], patches
        return self.open


_ranges = _Ranges()


_Pair = tuple[Any, str, str, Callable[..., str]]
"""Owner of two functions, their names, and what gives a range's name from the arguments of the first."""

_TORCH: _Pair = (torch.cuda.nvtx, "range_push", "range_pop", lambda message: str(message))


def _of_package() -> Iterator[_Pair]:
    """The functions of the package ``nvtx``, where it is installed and does anything (see NVTX_DISABLE)."""
    try:
        import nvtx
    except ImportError:
        return
    if not nvtx.enabled():
        return
    yield nvtx, "push_range", "pop_range", lambda message=None, *_, **__: str(message or "")
    yield nvtx.annotate, "__enter__", "__exit__", lambda self: str(self.init_args[0] or "")


@contextmanager
def _observing(owner: Any, push: str, pop: str, name_of: Callable[..., str], patches: object) -> Iterator[None]:
    original_push, original_pop = getattr(owner, push), getattr(owner, pop)

    def observed_push(*args: Any, **kwargs: Any) -> Any:
        if not is_marking():
            opened = region(name_of(*args, **kwargs))
            _ranges.of(patches).append(opened)
            opened.__enter__()
        return original_push(*args, **kwargs)

    def observed_pop(*args: Any, **kwargs: Any) -> Any:
        opened = _ranges.of(patches)
        if not is_marking() and opened:
            opened.pop().__exit__(None, None, None)
        return original_pop(*args, **kwargs)

    with mock.patch.object(owner, push, observed_push), mock.patch.object(owner, pop, observed_pop):
        yield


@contextmanager
def _observing_all() -> Iterator[None]:
    patches = object()
    with ExitStack() as stack:
        for pair in (_TORCH, *_of_package()):
            stack.enter_context(_observing(*pair, patches))
        yield


nvtx_ranges_as_regions = Shared(_observing_all)
"""A context in which each NVTX range that is pushed is a region until it is popped, one for all who asked."""
