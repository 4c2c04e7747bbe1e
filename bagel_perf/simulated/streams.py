"""Streams and events of the simulated device: work is done when its call returns, so only asking to wait counts.

Threads started while the device is open see it too, although torch's modes are of one thread each.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import torch

from bagel_perf.simulated.patches import Patches, refused_function
from bagel_perf.simulated.tensor import DEVICE

if TYPE_CHECKING:
    from bagel_perf.simulated.device import SimulatedDevice


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


_numbers = itertools.count(1)


POLLED = "event.query() or stream.query(), which returns at once, but holds the host as a wait does where a loop asks"


def _wait() -> None:
    from bagel_perf.simulated.device import active_device

    device = active_device()
    if device is not None:
        device.synchronize()


def _poll() -> None:
    """All work is done here, so a loop that polls asks once, whatever it would do on a GPU."""
    from bagel_perf.simulated.device import active_device

    device = active_device()
    if device is not None:
        device.warns(POLLED)


class SimulatedStream:
    """Stands for ``torch.cuda.Stream`` and ``torch.Stream``."""

    device_type = 1
    device_index = 0
    ipc_handle = refused_function("Stream.ipc_handle")

    def __init__(self, device: Any = None, priority: int = 0, stream_id: int | None = None, **options: Any) -> None:
        self.device = DEVICE
        self.priority = priority
        self.stream_id = next(_numbers) if stream_id is None else stream_id
        self._entered: list[StreamContext] = []

    @property
    def cuda_stream(self) -> int:
        return self.stream_id

    @property
    def native_handle(self) -> int:
        return self.stream_id

    def query(self) -> bool:
        """True; a hazard, as it may be asked until it is."""
        _poll()
        return True

    def is_capturing(self) -> bool:
        return False

    def synchronize(self) -> None:
        """One explicit wait."""
        _wait()

    def wait_event(self, event: SimulatedEvent) -> None:
        """The device waits, not the host."""
        event.wait(self)

    def wait_stream(self, stream: SimulatedStream) -> None:
        """The device waits, not the host."""
        self.wait_event(stream.record_event())

    def record_event(self, event: SimulatedEvent | None = None) -> SimulatedEvent:
        event = SimulatedEvent() if event is None else event
        event.record(self)
        return event

    @staticmethod
    def priority_range() -> tuple[int, int]:
        return 0, -5

    def __enter__(self) -> Self:
        context = StreamContext(self)
        context.__enter__()
        self._entered.append(context)
        return self

    def __exit__(self, *raised: Any) -> None:
        self._entered.pop().__exit__(*raised)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SimulatedStream) and other.stream_id == self.stream_id

    def __hash__(self) -> int:
        return hash((SimulatedStream, self.stream_id))

    def __repr__(self) -> str:
        return f"<torch.cuda.Stream device={self.device} cuda_stream={self.stream_id:#x}>"


class SimulatedEvent:
    """Stands for ``torch.cuda.Event`` and ``torch.Event``; times are the CPU's."""

    device = DEVICE
    event_id = 0
    ipc_handle = refused_function("Event.ipc_handle")
    from_ipc_handle = refused_function("Event.from_ipc_handle")

    def __init__(self, device: Any = None, *, enable_timing: bool = False, **options: Any) -> None:
        # torch.cuda.Event takes enable_timing first, torch.Event the device
        self._has_timing = enable_timing or device is True
        self._recorded_s: float | None = None

    @property
    def cuda_event(self) -> int:
        """No handle before the first record."""
        return int(self._recorded_s is not None)

    def record(self, stream: SimulatedStream | None = None) -> None:
        self._recorded_s = time.perf_counter()

    def wait(self, stream: SimulatedStream | None = None) -> None:
        """The device waits, not the host."""

    def query(self) -> bool:
        """True; a hazard, as it may be asked until it is."""
        _poll()
        return True

    def synchronize(self) -> None:
        """One explicit wait, where there is something to wait for."""
        if self._recorded_s is not None:
            _wait()

    def elapsed_time(self, end_event: SimulatedEvent) -> float:
        """Milliseconds from this event to ``end_event``."""
        if not (self._has_timing and end_event._has_timing):
            raise ValueError("both events must be created with enable_timing=True")
        if self._recorded_s is None or end_event._recorded_s is None:
            raise ValueError("both events must be recorded before the time between them is asked for")
        return (end_event._recorded_s - self._recorded_s) * 1e3


class _CurrentStream(threading.local):
    def __init__(self) -> None:
        self.stream = _default


_default = SimulatedStream(stream_id=0)
_current = _CurrentStream()


def forget_streams() -> None:
    """Every thread is on the default stream again, whatever a device that is closed left behind."""
    global _current
    _current = _CurrentStream()


def default_stream(device: Any = None) -> SimulatedStream:
    return _default


def current_stream(device: Any = None) -> SimulatedStream:
    return _current.stream


def set_stream(stream: SimulatedStream | None) -> None:
    """The one way onto another stream than the default one, whoever asks: listeners are told of it."""
    from bagel_perf.simulated.device import active_device

    if stream is None:
        return
    device = active_device()
    if device is not None and stream not in (_default, _current.stream):
        device.moves()
    _current.stream = stream


class StreamContext:
    """Stands for ``torch.cuda.StreamContext``, and for ``torch.cuda.stream``, which makes one."""

    def __init__(self, stream: SimulatedStream | None) -> None:
        self.stream = stream
        self._before = _default

    def __enter__(self) -> None:
        self._before = current_stream()
        set_stream(self.stream)

    def __exit__(self, *raised: Any) -> None:
        _current.stream = self._before


def external_stream(stream_ptr: int, device: Any = None, **options: Any) -> SimulatedStream:
    return SimulatedStream(stream_id=stream_ptr)


class DeviceContext:
    """Stands for ``torch.cuda.device`` and its kin; the one device is always the current one."""

    def __init__(self, device: Any = None) -> None:
        from bagel_perf.simulated.device import active_device

        active = active_device()
        if active is not None and device is not None and not isinstance(device, torch.Tensor) and device != -1:
            active.owns(device)
        self.idx = self.prev_idx = 0

    def __enter__(self) -> None:
        pass

    def __exit__(self, *raised: Any) -> None:
        pass
