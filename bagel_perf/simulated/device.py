"""The device itself: receives every torch call, runs it on the CPU, and tells where the host would wait."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bagel_perf.records.sites import Kind
from bagel_perf.rules import torch_lacks, torch_names
from bagel_perf.rules.torch_versions import TorchName, open_names
from bagel_perf.simulated import calls, frontends, wrappers
from bagel_perf.simulated import watch as uses
from bagel_perf.simulated.autograd import patch_autograd
from bagel_perf.simulated.calls import Args, Func, Kwargs
from bagel_perf.simulated.frontends import patch_optimizers, patch_transforms
from bagel_perf.simulated.lacking import run_again
from bagel_perf.simulated.overrides import Composites
from bagel_perf.simulated.patches import Patches, refuse_in_child, watch_forks
from bagel_perf.simulated.tensor import DEVICE, SimulatedTensor, hidden, to_plain, to_simulated
from bagel_perf.simulated.transfers import PinnedMemory
from bagel_perf.simulated.watch import BackwardWatch, Watch, is_watching, unwatched

Listener = Callable[[Kind], None]
CopyListener = Callable[[bool, int | None, bool], None]
"""(is_download, bytes or None where nobody knows them, whether the host waits)."""
MoveListener = Callable[[], None]
UseListener = Callable[[], bool]
"""Called at a use of the device, on the thread that uses it; gives whether it need not be called again."""
RemarkListener = Callable[[str, str], None]
"""Called with "unjudged", "hazards" or "notes", and what was remarked."""
CallListener = Callable[[str, Args, Kwargs, Any], None]
"""Called after each torch call, and each operator of a backward pass: its name, its arguments, and what it gave."""
_open: list[SimulatedDevice] = []
_open_lock = threading.Lock()
_num_dispatch_modes: Callable[[], int] = torch_names.NUM_DISPATCH_MODES.find()


def active_device() -> SimulatedDevice | None:
    """The device whose context is open in this process, if any."""
    return _open[0] if _open else None


class SimulatedDevice:
    """A device whose values are real and whose waits are counted; use it as a context, one at a time in a process.

    Inside, everything called "cuda" is this device: there factories, ``.to`` and ``.cpu`` put and take tensors as CUDA
    would; random numbers come from the CPU's generators. Each wait calls ``on_sync(kind)`` on the waiting thread,
    before the operation runs. A CPU tensor with dimensions among device tensors is a RuntimeError, as on CUDA.

    ``unjudged`` has the calls of operators whose number of waits is not known, and which are not counted; ``hazards``
    those of what does not wait but may hold the host up, as an asynchronous copy of pageable memory, which the driver
    stages; ``notes`` what ran in another way than on CUDA. All three by name.
    ``lacks`` are names of torch that this version does not have or lets nobody replace.
    """

    def __init__(self, on_sync: Listener | None = None) -> None:
        self.device: torch.device = DEVICE
        self.unjudged: Counter[str] = Counter()
        self.hazards: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.lacks: tuple[TorchName, ...] = ()
        self.pinned = PinnedMemory()
        self.composites = Composites()
        self.has_nested = False
        self.has_sparse = False
        self._listeners: tuple[Listener, ...] = () if on_sync is None else (on_sync,)
        self._copy_listeners: tuple[CopyListener, ...] = ()
        self._move_listeners: tuple[MoveListener, ...] = ()
        self._remark_listeners: tuple[RemarkListener, ...] = ()
        self._call_listeners: tuple[CallListener, ...] = ()  # empty most of the time: asked at each call
        self._use_listeners: tuple[UseListener, ...] = (self._first_use,)  # empty most of the time: asked at each call
        self._was_used = False
        self._was_asked = False
        self._handlers: dict[Any, calls.Handler] = {}
        self.host_masks: dict[int, weakref.ref[Tensor]] = {}
        self._of_thread = threading.local()
        self._mode = _EveryCall(self)
        self._patches = Patches()
        patch_autograd(self._patches, self)
        patch_optimizers(self._patches)
        patch_transforms(self._patches)
        wrappers.patch_wrappers(self._patches, self)
        self._patches.replace(
            torch_names.HAS_TORCH_FUNCTION, lambda native: torch_lacks.ignoring(SimulatedTensor, _EveryCall)
        )

    def __enter__(self) -> Self:
        torch_lacks.require("simulated")
        with _open_lock:
            if _open:
                raise RuntimeError("another simulated device is open in this process; close it first")
            _open.append(self)
        watch_forks()
        self._patches.__enter__()
        self.misses((*torch_lacks.lacking("simulated"), *self._patches.refused))
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        self._mode.__exit__(*raised)  # type: ignore[no-untyped-call]
        self._patches.__exit__(*raised)
        with _open_lock:
            _open.remove(self)

    def wrap(self, tensor: Tensor) -> Tensor:
        """A CPU tensor as a tensor of the device, sharing its memory; no wait."""
        if isinstance(tensor, SimulatedTensor):
            return tensor
        with hidden():
            return to_simulated(tensor)

    def unwrap(self, tensor: Tensor) -> Tensor:
        """A tensor of the device as a CPU tensor, sharing its memory; for ourselves, counts no wait."""
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

    @contextmanager
    def copies_to(self, listener: CopyListener) -> Iterator[None]:
        """``listener(is_download, num_bytes, waits)`` is called before each copy of a tensor across, also without wait.

        Of tensors made of data, and of elements that are read, waits tell, with ``bytes_of_wait``.
        """
        with _open_lock:
            self._copy_listeners = (*self._copy_listeners, listener)
        try:
            yield
        finally:
            with _open_lock:
                self._copy_listeners = tuple(other for other in self._copy_listeners if other != listener)

    @contextmanager
    def moves_to(self, listener: MoveListener) -> Iterator[None]:
        """``listener()`` is called whenever a thread goes over to a side stream, until the end of the context."""
        with _open_lock:
            self._move_listeners = (*self._move_listeners, listener)
        try:
            yield
        finally:
            with _open_lock:
                self._move_listeners = tuple(other for other in self._move_listeners if other != listener)

    def moves(self) -> None:
        """This thread goes over to a side stream now."""
        for listener in self._move_listeners:
            listener()

    @contextmanager
    def uses_to(self, listener: UseListener) -> Iterator[None]:
        """``listener()`` is called at each use of the device, until it gives True or the end of the context.

        A use is a call that takes or gives a tensor of the device, and any wait; to ask for a shape is none.
        """
        with _open_lock:
            self._use_listeners = (*self._use_listeners, listener)
        try:
            yield
        finally:
            self._forget_use_listeners({listener})

    def _forget_use_listeners(self, gone: set[UseListener]) -> None:
        with _open_lock:
            self._use_listeners = tuple(other for other in self._use_listeners if other not in gone)

    def _first_use(self) -> bool:
        self._was_used = True
        return True

    @property
    def was_used(self) -> bool:
        """Whether anything ran on the device so far."""
        return self._was_used

    def used(self) -> None:
        """Something runs on the device now; RuntimeError in a process forked from one that used it, as on CUDA."""
        if gone := {listener for listener in self._use_listeners if listener()}:
            self._forget_use_listeners(gone)

    def asked(self) -> None:
        """Something asks for the device now that has CUDA look at its driver: forks from here on may not use it."""
        self._was_asked = True

    def forked(self) -> None:
        """This process is a copy: what listened to the device listens in the other one."""
        global _open_lock
        _open_lock = threading.Lock()  # a thread that is not here may have held the other one
        self._listeners = self._copy_listeners = self._move_listeners = self._remark_listeners = ()
        self._call_listeners = ()
        self._use_listeners = (refuse_in_child if self._was_used or self._was_asked else self._first_use,)

    @contextmanager
    def remarks_to(self, listener: RemarkListener) -> Iterator[None]:
        """``listener(what, name)`` is called at each remark besides waits, until the end of the context."""
        with _open_lock:
            self._remark_listeners = (*self._remark_listeners, listener)
        try:
            yield
        finally:
            with _open_lock:
                self._remark_listeners = tuple(other for other in self._remark_listeners if other != listener)

    def _tell_remark(self, what: str, name: str) -> None:
        for listener in self._remark_listeners:
            listener(what, name)

    @contextmanager
    def calls_to(self, listener: CallListener) -> Iterator[None]:
        """``listener(name, args, kwargs, result)`` is called after each call, until the end of the context."""
        with _open_lock:
            self._call_listeners = (*self._call_listeners, listener)
        try:
            yield
        finally:
            with _open_lock:
                self._call_listeners = tuple(other for other in self._call_listeners if other != listener)

    def called(self, name: str, args: Args, kwargs: Kwargs, result: Any) -> None:
        """A call has ended."""
        for listener in self._call_listeners:
            listener(name, args, kwargs, result)

    def owns(self, device: torch.device | str | int | None) -> bool:
        """Whether ``device`` is this one; a number is an index of CUDA devices, of which there is one."""
        if device is None:
            return False
        if isinstance(device, str):
            device = torch.device(device)
        index = device.index if isinstance(device, torch.device) else device
        if isinstance(device, torch.device) and device.type != self.device.type:
            return False
        if index not in (None, 0):
            raise RuntimeError(f"invalid device ordinal {index}: the simulated device is {self.device}, the only one")
        return True

    def waits(self, kind: Kind, times: int = 1, num_bytes: int | None = None) -> None:
        """The host would wait ``times`` times now, for a copy of ``num_bytes`` each where that is what it waits for."""
        if self._use_listeners and times:
            self.used()
        for _ in range(times):
            self._of_thread.num_bytes = num_bytes  # a listener may have waited itself
            for listener in self._listeners:
                listener(kind)

    def reads(self, kind: Kind, sizes: Iterable[int | None]) -> None:
        """The host would wait now for a copy of each size."""
        for num_bytes in sizes:
            self.waits(kind, 1, num_bytes)

    def bytes_of_wait(self) -> int | None:
        """For a listener: what the wait copies that it is told of; None where nobody knows, or it is no copy."""
        return getattr(self._of_thread, "num_bytes", None)

    def on_copy(self, *, is_download: bool, num_bytes: int | None, waits: bool) -> None:
        """Values would be copied between host and device now."""
        if self._use_listeners:
            self.used()
        for listener in self._copy_listeners:
            listener(is_download, num_bytes, waits)

    def cannot_judge(self, operator: str) -> None:
        """An operator was called whose waits are not known."""
        with _open_lock:
            self.unjudged[operator] += 1
        self._tell_remark("unjudged", operator)

    def warns(self, hazard: str) -> None:
        """The host does not wait, but may be held up."""
        with _open_lock:
            self.hazards[hazard] += 1
        self._tell_remark("hazards", hazard)

    def remarks(self, note: str) -> None:
        """Something ran in another way than on CUDA."""
        with _open_lock:
            self.notes[note] += 1
        self._tell_remark("notes", note)

    def misses(self, names: tuple[TorchName, ...]) -> None:
        """This torch lacks some names; where figures may be wrong without them, they are open."""
        self.lacks = (*self.lacks, *names)
        for text in open_names(names):
            self.cannot_judge(text)

    def watch(self, reads: Kind = "scalar_read") -> Watch:
        """A context that reports the waits of the operators a call is made of."""
        watches: dict[Kind, Watch] | None = getattr(self._of_thread, "watches", None)
        if watches is None:
            watches = self._of_thread.watches = {}
        found = watches.get(reads)
        if found is None:  # kept: making one takes longer than the call it watches
            found = watches[reads] = Watch(self, reads=reads)
        return found

    def watch_backward(self) -> BackwardWatch:
        """A context that reports the waits of a backward pass."""
        return BackwardWatch(self)

    def intercepting(self) -> TorchFunctionMode:
        """A context on whose thread every torch call comes here; for what runs inside a call, and for new threads."""
        return _EveryCall(self)

    def call(self, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        """Runs one torch function as the device would."""
        handler = self._handlers.get(func)
        if handler is None:
            handler = self._handlers[func] = calls.handler_of(self, func)
        if wrappers.holds_wrapper(args) or (kwargs and wrappers.holds_wrapper(kwargs.values())):
            handler = wrappers.run_wrapped
        elif self.has_nested and frontends.holds_nested((*args, *kwargs.values())):
            handler = frontends.judging_nested(handler)
        elif self.has_sparse and frontends.holds_sparse((*args, *kwargs.values())):
            handler = frontends.judging_sparse(handler)
        if self._use_listeners:
            handler = uses.telling(handler)
        if self._call_listeners:
            handler = uses.reporting(handler)
        try:
            if _num_dispatch_modes():
                if wrappers.is_native(args, kwargs):
                    return func(*args, **kwargs)
                if is_watching():
                    with unwatched():
                        return handler(self, func, types, args, kwargs)
            return handler(self, func, types, args, kwargs)
        except RuntimeError as error:
            return run_again(self, handler, func, types, (args, kwargs), error)


class _EveryCall(TorchFunctionMode):
    def __init__(self, device: SimulatedDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, func: Func, types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        if active_device() is not self._device:  # a thread has outlived the device
            return func(*args, **(kwargs or {}))
        return self._device.call(func, types, args, kwargs or {})
