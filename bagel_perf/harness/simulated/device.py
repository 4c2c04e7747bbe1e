"""The device itself: receives every torch call, runs it on the CPU, and tells where the host would wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bagel_perf.harness.simulated import calls
from bagel_perf.harness.simulated.calls import Args, Func, Kwargs
from bagel_perf.harness.simulated.pinned import PinnedMemory
from bagel_perf.harness.simulated.tensor import DEVICE, SimulatedTensor, hidden, to_plain, to_simulated
from bagel_perf.harness.simulated.watch import Watch
from bagel_perf.schema.waits import Kind

Listener = Callable[[Kind], None]
_open: list[SimulatedDevice] = []
_open_lock = threading.Lock()


def active_device() -> SimulatedDevice | None:
    """The device whose context is open in this process, if any."""
    return _open[0] if _open else None


class SimulatedDevice:
    """A device whose values are real and whose waits are counted; use it as a context, one at a time in a process.

    Inside, ``device`` is where factories, ``.to`` and ``.cpu`` put and take tensors as CUDA would; random numbers come
    from the CPU's generators. Each wait calls ``on_sync(kind)`` on the waiting thread, before the operation runs.
    ``unjudged`` names the operations whose number of waits is not known. A CPU tensor with dimensions among device
    tensors is a RuntimeError, as on CUDA.
    """

    def __init__(self, on_sync: Listener | None = None) -> None:
        self.device: torch.device = DEVICE
        self.unjudged: set[str] = set()
        self.pinned = PinnedMemory()
        self._listeners: tuple[Listener, ...] = () if on_sync is None else (on_sync,)
        self._handlers: dict[Any, calls.Handler] = {}
        self._of_thread = threading.local()
        self._mode = _EveryCall(self)

    def __enter__(self) -> Self:
        with _open_lock:
            if _open:
                raise RuntimeError("another simulated device is open in this process; close it first")
            _open.append(self)
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        self._mode.__exit__(*raised)  # type: ignore[no-untyped-call]
        with _open_lock:
            _open.remove(self)

    def wrap(self, tensor: Tensor) -> Tensor:
        """A CPU tensor as a tensor of the device, sharing its memory; no wait."""
        if isinstance(tensor, SimulatedTensor):
            return tensor
        with hidden():
            return to_simulated(tensor)

    def unwrap(self, tensor: Tensor) -> Tensor:
        """A tensor of the device as a CPU tensor, sharing its memory; for the harness, counts no wait."""
        return to_plain(tensor)

    def synchronize(self) -> None:
        """What ``torch.cuda.synchronize()`` is on CUDA: one explicit wait."""
        self.waits("explicit_sync")

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """``listener`` is called at each wait as well, until the end of the context."""
        with _open_lock:
            self._listeners = (*self._listeners, listener)
        try:
            yield
        finally:
            with _open_lock:
                self._listeners = tuple(other for other in self._listeners if other != listener)

    def owns(self, device: torch.device | str | int | None) -> bool:
        """Whether ``device`` is this one."""
        if device is None or isinstance(device, int):  # a number is an index of CUDA devices
            return False
        return torch.device(device).type == self.device.type

    def waits(self, kind: Kind, times: int = 1) -> None:
        """The host would wait ``times`` times now."""
        for _ in range(times):
            for listener in self._listeners:
                listener(kind)

    def watch(self, reads: Kind = "scalar_read", *, reads_only: bool = False) -> Watch:
        """A context that reports the waits of the operators a call is made of."""
        watches: dict[tuple[Kind, bool], Watch] | None = getattr(self._of_thread, "watches", None)
        if watches is None:
            watches = self._of_thread.watches = {}
        found = watches.get((reads, reads_only))
        if found is None:  # kept: making one takes longer than the call it watches
            found = Watch(self.waits, self.unjudged, reads=reads, reads_only=reads_only)
            watches[reads, reads_only] = found
        return found

    def call(self, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        """Runs one torch function as the device would."""
        handler = self._handlers.get(func)
        if handler is None:
            handler = self._handlers[func] = calls.handler_of(func)
        return handler(self, func, types, args, kwargs)


class _EveryCall(TorchFunctionMode):
    def __init__(self, device: SimulatedDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, func: Func, types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        return self._device.call(func, types, args, kwargs or {})
