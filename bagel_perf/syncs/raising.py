"""Raises at the wait that takes a budget above its limit, so that the traceback ends at the line of the program.

On the simulated device the error is raised where the host would wait, before it does. On CUDA the wait is told by a
callback from C++, where torch logs what a callback raises and goes on (``CallbackRegistry.fire_callbacks``, and once
more in C++). So it is raised late: in the innermost frame of the program on that thread, before its next instruction,
by a trace function of that frame. The thread's own trace function (a debugger's, coverage's), which Python drops when
one raises, is set again at the next wait or at the end of the watch. A thread of autograd's on which no Python runs has
no such frame; there the caller of the backward pass meets the error at its end.

While somebody listens to CUDA, torch calls Python whenever memory of the device is released, and where an exception is
on its way just then, Python replaces it by a SystemError. So an error that is raised late keeps what lives on the
device alive as long as itself.

A thread that handles such an error, in ``except``, ``finally`` or the end of a context, meets no further one meanwhile:
who cleans up may wait. Once it has been caught, the next wait over budget raises again. All are counted.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Mapping
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Literal, get_args

import torch

from bagel_perf.records.errors import UsageError
from bagel_perf.records.sites import HINTS, SyncSite
from bagel_perf.records.syncs import BudgetCheck, SyncBudgetExceeded
from bagel_perf.rules.own_folders import MEASURING_FOLDERS
from bagel_perf.syncs.budgets import WHOLE, BudgetKeeper
from bagel_perf.syncs.frames import Folders, entries_of
from bagel_perf.syncs.hearing import Reaction, Wait
from bagel_perf.syncs.sites import Place, SyncCollector, Texts, site_of

OnWait = Literal["count", "raise"]


def budgets_of(on_wait: OnWait, budgets: Mapping[str, int] | None) -> Mapping[str, int]:
    """The budgets of a watch: where it raises and none is given, 0 for the whole. ``UsageError`` for other words."""
    if on_wait not in get_args(OnWait):
        raise UsageError("on_wait", value=repr(on_wait), allowed=" or ".join(map(repr, get_args(OnWait))))
    if budgets is None or budgets == {}:
        return {WHOLE: 0} if on_wait == "raise" else {}
    return budgets


_LATE = "raised after it, as torch lets no error out of a wait"
_AT_THE_END = "raised after the backward pass, as no line of the program runs on autograd's thread"


class _OfThread(threading.local):
    dropped: Any = None
    """The trace function that was there before ours raised."""


_of_thread = _OfThread()


_OF_DEVICE: tuple[type, ...] = (torch.Tensor, torch.UntypedStorage, torch.cuda.Event)


def keep_budgets(keeper: BudgetKeeper, collector: SyncCollector, on_wait: OnWait) -> None:
    """Has ``keeper`` told of the waits of ``collector``, which count on its threads; those over budget may raise."""
    is_late = collector.device != "simulated"

    def judge(wait: Wait, place: Place) -> Reaction | None:
        _trace_again()
        check = keeper.wait(is_allowed=wait.allowed is not None or bool(wait.phase))
        if check is None or on_wait == "count" or _is_handled():
            return None
        if not is_late:
            return partial(_raise, _error(wait, place, check, ""))
        if wait.stands_in is not None:
            return partial(wait.stands_in.at_end.append, partial(_raise_late, _error(wait, place, check, _AT_THE_END)))
        if wait.frame is None or isinstance(sys.gettrace(), _Late):
            return None  # a thread without Python, or one that meets an error already
        return _Late(_error(wait, place, check, _LATE), wait.frame).arm

    collector.counts_here = keeper.counts_here
    collector.judges = (*collector.judges, judge)


def _raise(error: Exception) -> None:
    raise error


def _raise_late(error: Exception, traceback: TracebackType | None = None) -> None:
    vars(error)["_kept"] = [each for each in gc.get_objects() if issubclass(type(each), _OF_DEVICE)]
    raise error.with_traceback(traceback)


def _is_handled() -> bool:
    """Whether this thread handles an error of ours."""
    error = sys.exc_info()[1]
    while error is not None:
        if _is_ours(error):
            return True
        error = error.__context__
    return False


def _is_ours(error: BaseException | None) -> bool:
    return isinstance(error, SyncBudgetExceeded) and error.site is not None


def _error(wait: Wait, place: Place, check: BudgetCheck, when: str) -> SyncBudgetExceeded:
    instructions = () if wait.frame is None else (wait.frame.f_lasti,)
    site = site_of(wait.kind, place, 1, instructions, Texts())
    line = f"{site.file}:{site.line}" if site.file else "a thread without a line of Python"
    budget = f"budget {check.limit}{f' of region {check.region}' if check.region else ''}"
    error = SyncBudgetExceeded(
        f"{line} {'waited' if when else 'waits'} for the device{f', {when}' if when else ''}",
        value=", ".join(_words(site)),
        allowed=f"{budget}, this is wait {check.worst}",
        remedy=f'instead: {HINTS[site.kind].instead}; or allow_sync("why it has to wait")',
    )
    error.site, error.budget = site, check
    return error


def _words(site: SyncSite) -> list[str]:
    region = [f"region {site.region}"] if site.region else []
    return [site.kind, *site.expressions[:1], *region]


class _Late:
    """Raises an error in a frame of this thread before its next instruction, unless that raises one itself."""

    def __init__(self, error: Exception, frame: FrameType) -> None:
        self._error = error
        self._frame = frame
        self._lasti, self._line = frame.f_lasti, frame.f_lineno
        self._before = (frame.f_trace, frame.f_trace_opcodes, sys.gettrace())

    def arm(self) -> None:
        """From here on."""
        self._frame.f_trace_opcodes = True
        self._frame.f_trace = self._go_on
        sys.settrace(self)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Traces no frame that begins meanwhile."""

    def _go_on(self, frame: FrameType, event: str, argument: Any) -> Any:
        frame.f_trace, frame.f_trace_opcodes, previous = self._before
        sys.settrace(previous)
        if event == "exception":
            return frame.f_trace
        _of_thread.dropped = previous
        # Where ``if t:`` has waited, the frame is at the next line already.
        at_wait = TracebackType(None, frame, self._lasti, self._line) if frame.f_lineno != self._line else None
        return _raise_late(self._error, at_wait)


def _trace_again() -> None:
    """Sets the trace function that Python dropped because ours raised."""
    dropped, _of_thread.dropped = _of_thread.dropped, None
    if dropped is not None and sys.gettrace() is None:
        sys.settrace(dropped)


def end_at_wait(kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
    """Leaves of the traceback of such an error what ends at the line that waits; for the end of a watch."""
    _trace_again()
    if not _is_ours(error):
        return
    folders = Folders()
    entries = list(entries_of(traceback))
    users = [i for i, entry in enumerate(entries) if folders.user_frame(entry.tb_frame) is entry.tb_frame]
    entries = entries[: max(users, default=-1) + 1]
    kept = [entry for entry in entries if not entry.tb_frame.f_code.co_filename.startswith(MEASURING_FOLDERS)]
    for entry, following in zip(kept, [*kept[1:], None], strict=True):
        entry.tb_next = following
