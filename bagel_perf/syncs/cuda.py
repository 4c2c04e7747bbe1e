"""Hears each wait of the host for a CUDA device: by callbacks of torch's tracing, and by warnings of its debug mode.

The interface of tracing is private and swallows what its callbacks raise: so one dispatcher is registered per process,
it only records, and ``callbacks_fire`` tells whether it still works. Once active, it calls into Python at every
allocation and release of device memory, some microseconds each, and torch has no way to end that; the switch here has.

The second witness is ``torch.cuda.set_sync_debug_mode``, whose warnings are counted and not shown. The mode is one flag
of the process, and Python's warning filters decide whether a warning arrives. Ours stay in front of those that the
program sets up meanwhile; where it puts a function of its own in the place of ``warnings.showwarning``, the witness is
given up.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, wraps
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch

from bagel_perf.records.sites import Kind
from bagel_perf.rules import torch_lacks, torch_names
from bagel_perf.syncs.calls import kind_of_wait
from bagel_perf.syncs.frames import INNER_FOLDERS

_STREAMS = str(Path(torch.__file__).parent / "cuda" / "streams.py")

Listener = Callable[[Kind], None]


class _Switch:
    """The flag in torch's core library that lets callbacks run; ``is_there`` is False where it has another name."""

    def __init__(self) -> None:
        self._flag = _flag()

    @property
    def is_there(self) -> bool:
        return self._flag is not None

    @property
    def is_on(self) -> bool:
        return self._flag is not None and self._flag.value

    def turn(self, on: bool) -> None:
        if self._flag is not None:
            self._flag.value = on


def _flag() -> ctypes.c_bool | None:
    """What torch sets once, and asks before each callback."""
    for library in Path(torch.__file__).parent.glob("lib/*c10.*"):
        try:
            return ctypes.c_bool.in_dll(ctypes.CDLL(str(library)), torch_names.C10_SWITCH)
        except (OSError, ValueError):
            continue
    return None


class _Dispatcher:
    """The one set of callbacks of the process; while nobody listens, torch does not call them."""

    def __init__(self) -> None:
        self.listeners: tuple[Listener, ...] = ()
        self.lock = threading.Lock()
        self.is_proven = False
        self.num_device_and_event_waits = 0
        self._registered = False
        self._is_ours = False

    @cached_property
    def switch(self) -> _Switch:
        return _Switch()

    def add(self, listener: Listener) -> None:
        """Turns the callbacks on for the first listener."""
        with self.lock:
            if not self.listeners:
                self._is_ours = not self.switch.is_on  # else somebody has use for them besides
                self._register()
                self.switch.turn(True)
            self.listeners = (*self.listeners, listener)

    def remove(self, listener: Listener) -> None:
        """Turns the callbacks off after the last listener, if they were off before the first."""
        with self.lock:
            self.listeners = tuple(other for other in self.listeners if other != listener)
            if not self.listeners and self._is_ours:
                self.switch.turn(False)

    def _register(self) -> None:
        if self._registered:
            return
        trace, activate = torch_names.GPU_TRACE.find(), torch_names.ACTIVATE_GPU_TRACE.find()
        if trace is None or activate is None:
            return  # nothing will be heard, which ``callbacks_fire`` tells
        trace.register_callback_for_stream_synchronization(self._on_stream)
        trace.register_callback_for_device_synchronization(self._on_device)
        trace.register_callback_for_event_synchronization(self._on_event)
        activate()
        self._registered = True

    def _on_stream(self, stream: int) -> None:
        if self.listeners:
            self._tell("explicit_sync" if _asked_for_by_name() else kind_of_wait())

    def _on_device(self) -> None:
        self._on_event(0)

    def _on_event(self, event: int) -> None:
        if self.listeners:
            self.num_device_and_event_waits += 1
            self._tell("explicit_sync")

    def tell_staged(self) -> None:
        """A copy has held the host, of which the sync debug mode knows nothing."""
        if self.listeners:
            self.num_device_and_event_waits += 1
            self._tell("staged_copy")

    def _tell(self, kind: Kind) -> None:
        for listener in self.listeners:
            listener(kind)


_dispatcher = _Dispatcher()


def _asked_for_by_name() -> bool:
    """Whether ``Stream.synchronize`` is on the stack: a stream's callback also stands for implicit waits."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(INNER_FOLDERS):
        if frame.f_code.co_filename == _STREAMS:
            return True
        frame = frame.f_back
    return False


@contextmanager
def listening_to_cuda(listener: Listener) -> Iterator[None]:
    """``listener`` is called on the waiting thread, before it waits, until the end of the context."""
    _dispatcher.add(listener)
    try:
        yield
    finally:
        _dispatcher.remove(listener)


def tell_staged() -> None:
    """Tells whoever listens that an asynchronous copy has held the host on this thread."""
    _dispatcher.tell_staged()


def callbacks_stay_on() -> bool:
    """Whether torch goes on calling back when nobody listens any more, which slows down every allocation."""
    return not _dispatcher.switch.is_there


def num_device_and_event_waits() -> int:
    """Waits so far of which the sync debug mode knows nothing: for a device, for an event, and of staged copies."""
    return _dispatcher.num_device_and_event_waits


def require_callbacks() -> None:
    """Raises RuntimeError where CUDA's callbacks do not fire; asks the device once a process."""
    if not torch.cuda.is_available():
        raise RuntimeError(
            "no CUDA device here, so nothing waits for one; `bagel-perf syncs -- python SCRIPT` runs a program on a "
            "simulated device, and so do tests with @pytest.mark.max_host_syncs"
        )
    torch_lacks.require("cuda")
    if not _dispatcher.is_proven and not callbacks_fire():
        raise RuntimeError(
            f"torch {torch.__version__} no longer calls back when the host waits; waits cannot be counted"
        )


def callbacks_fire() -> bool:
    """Whether CUDA's callbacks see one ``.item()``; False where there is no CUDA device. Itself waits once."""
    if not torch.cuda.is_available():
        return False
    probe = torch.ones((), device="cuda")
    heard: list[Kind] = []
    with listening_to_cuda(heard.append):
        probe.item()
    _dispatcher.is_proven = bool(heard)
    return _dispatcher.is_proven


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
