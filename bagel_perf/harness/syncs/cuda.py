"""Hears each wait of the host for a CUDA device, through the callbacks of torch's tracing of GPUs.

That interface is private and swallows what its callbacks raise: so one dispatcher is registered per process, it only
records, and ``callbacks_fire`` tells whether it still works. Once active, it calls into Python at every allocation and
release of device memory, some microseconds each, and torch has no way to end that; the switch here has.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import FrameType

import torch

from bagel_perf.harness import torch_lacks, torch_names
from bagel_perf.harness.syncs.calls import kind_of_wait
from bagel_perf.harness.syncs.frames import INNER_FOLDERS
from bagel_perf.schema.waits import Kind

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
