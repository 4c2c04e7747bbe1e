"""The second witness on CUDA: warnings of ``torch.cuda.set_sync_debug_mode``, counted and not shown.

The mode is one flag of the process, and Python's warning filters decide whether a warning arrives. Ours stay in front
of those that the program sets up meanwhile; where it puts a function of its own in the place of
``warnings.showwarning``, the witness is given up.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any
from unittest import mock

import torch

from bagel_perf.harness.syncs.cuda import num_device_and_event_waits

_MESSAGE = "called a synchronizing CUDA operation"
_PROTOTYPE = "Synchronization debug mode is a prototype"


@dataclass(slots=True)
class WarningCount:
    """Warnings so far; ``doubt`` says why they cannot be relied on, empty where they can.

    ``num_blind`` waits meanwhile were for a device or an event, about which the mode does not warn.
    """

    total: int = 0
    doubt: str = ""
    num_blind_before: int = field(default_factory=num_device_and_event_waits)
    num_blind_after: int | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def num_blind(self) -> int:
        after = num_device_and_event_waits() if self.num_blind_after is None else self.num_blind_after
        return after - self.num_blind_before


@contextmanager
def counting_sync_warnings() -> Iterator[WarningCount]:
    """Counts the warnings of all threads until the end of the context; other warnings are shown as ever."""
    count = WarningCount()
    if torch.cuda.get_sync_debug_mode():
        count.doubt = "the sync debug mode was set before, and left alone"
        yield count
        return
    with warnings.catch_warnings(), ExitStack() as stack:
        counting = _Counting(count)
        counting.arm()
        for owner, name in _THAT_REPLACE:
            stack.enter_context(mock.patch.object(owner, name, counting.arming_after(getattr(owner, name))))
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield count
        finally:
            if torch.cuda.get_sync_debug_mode() != _WARN:
                count.doubt = "the program set the sync debug mode itself"
            elif counting.was_replaced or warnings.showwarning is not counting.show:
                count.doubt = "the program replaced warnings.showwarning, so warnings could not be counted"
            elif counting.was_passed_over or counting.is_passed_over():
                count.doubt = "the program set up warning filters in a way that hides warnings"
            torch.cuda.set_sync_debug_mode("default")
            count.num_blind_after = num_device_and_event_waits()


_WARN = 1
_THAT_REPLACE = (
    (warnings, "filterwarnings"),
    (warnings, "simplefilter"),
    (warnings, "resetwarnings"),
    (warnings.catch_warnings, "__enter__"),
    (warnings.catch_warnings, "__exit__"),
)
"""Functions that put other filters in front of ours, or another function in the place of ``showwarning``."""


class _Counting:
    """Counts warnings that reach ``show``, and hands the others to whoever would have shown them."""

    def __init__(self, count: WarningCount) -> None:
        self._count = count
        self._filter = warnings.filterwarnings  # before it is replaced
        self._show_others = warnings.showwarning
        self._sink = _sink()
        self.show = self._show  # one object: a method is another one each time
        self.was_replaced = False
        self.was_passed_over = False
        self._first: object = None

    def arm(self) -> None:
        """Puts our filters in front of the others."""
        self._filter("always", message=f".*{_MESSAGE}.*")
        self._filter("ignore", message=f".*{_PROTOTYPE}.*")
        warnings.showwarning = self.show
        self._first = warnings.filters[0]

    def is_passed_over(self) -> bool:
        """Whether another filter stands before ours, put there by a function that was imported before us."""
        return not warnings.filters or warnings.filters[0] != self._first

    def arming_after(self, function: Any) -> Any:
        """``function``, after which we are in front again."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            before = warnings.showwarning
            self.was_passed_over |= self.is_passed_over()
            result = function(*args, **kwargs)
            if before is self.show:
                self.arm()
            else:  # the program's own function is in its place, and stays
                self.was_replaced = True
            return result

        return call

    def _show(self, message: Warning | str, *details: Any, **named: Any) -> None:
        if _MESSAGE in str(message):
            with self._count.lock:
                self._count.total += 1
        elif _sink() is self._sink:
            self._show_others(message, *details, **named)
        else:  # under catch_warnings(record=True)
            warnings._showwarning_orig(message, *details, **named)  # type: ignore[attr-defined]


def _sink() -> object:
    """Where Python's own ``showwarning`` puts a message: another place while warnings are recorded."""
    return getattr(warnings, "_showwarnmsg_impl", None)
