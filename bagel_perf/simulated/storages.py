"""Storages of the simulated device, for programs that reach below tensors, as ``torch.save`` and ``torch.load`` do.

What waits follows torch's sources: bytes are read one by one, a file is written from a copy on the host and read into
one (torch/csrc/serialization.cpp), and storages are copied as tensors are (ATen's ``storage_copy``). None is sent to
another process: CUDA shares its memory there, this device has none to share.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import queues
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bagel_perf.rules import torch_inner_names, torch_names
from bagel_perf.simulated.calls import Args, Func, Handler, Kwargs, devices_differ
from bagel_perf.simulated.patches import NotSimulated, Patches
from bagel_perf.simulated.tensor import DEVICE, SimulatedTensor, hidden, to_plain, wrap

if TYPE_CHECKING:
    from bagel_perf.simulated.device import SimulatedDevice

_reduce_ex_internal: Any = torch_names.REDUCE_EX.find()
_rebuild_parameter: Any = torch_names.REBUILD_PARAMETER.find()


def _named_as_torchs(cls: type) -> type:
    """Files name the type of a storage."""
    cls.__name__ = "UntypedStorage"
    return cls


@_named_as_torchs
class SimulatedStorage(torch.UntypedStorage):
    """A CPU storage that says that it is the device's."""

    def __new__(cls, *args: Any, device: Any = None, **kwargs: Any) -> Any:
        return occupied(_new_storage(torch.UntypedStorage, *args, **kwargs))

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE

    def cpu(self) -> torch.UntypedStorage:
        """A copy on the host; waits."""
        _waits("d2h_copy", self, self.nbytes())
        return _copied(self)

    def cuda(self, device: Any = None, non_blocking: bool = False) -> Any:
        return self

    def copy_(self, source: Any, non_blocking: bool | None = None) -> Any:
        return _copy_between(self, source, bool(non_blocking))

    def _write_file(self, *args: Any, **kwargs: Any) -> Any:
        """Of the older format of ``torch.save``, and of pickle; waits."""
        _waits("d2h_copy", self, self.nbytes())
        return super()._write_file(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _set_from_file(self, *args: Any, **kwargs: Any) -> Any:
        _waits("pageable_upload", self, self.nbytes())
        return super()._set_from_file(*args, **kwargs)  # type: ignore[no-untyped-call]

    def clone(self) -> Any:
        return occupied(_copied(self))

    def tolist(self) -> list[Any]:
        """Its bytes; each is read by itself."""
        return list(self)

    def __getitem__(self, index: Any) -> Any:
        """A byte, which waits, or a slice of the same memory."""
        if isinstance(index, slice):
            with _as_the_hosts(self):
                return occupied(torch.UntypedStorage.__getitem__(self, index))
        _waits("scalar_read", self, 1)
        return torch.UntypedStorage.__getitem__(self, index)

    def share_memory_(self) -> Any:
        return self

    def is_shared(self) -> bool:
        return True

    def is_pinned(self, device: Any = "cuda") -> bool:
        return False

    def __deepcopy__(self, memo: dict[Any, Any]) -> Any:
        copied: Any = super().__deepcopy__(memo)  # type: ignore[no-untyped-call]
        return copied if isinstance(copied, SimulatedStorage) else occupied(copied)


_native: Any = torch_inner_names.NATIVE_STORAGE.find()
_new_storage: Any = _native.__new__


def _waits(kind: Any, storage: torch.UntypedStorage, num_bytes: int) -> None:
    from bagel_perf.simulated.device import active_device

    device = active_device()
    if device is not None and storage.nbytes():
        device.waits(kind, 1, num_bytes)


def _copied(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    with hidden():
        made = torch.UntypedStorage(storage.nbytes())
        _native.copy_(made, storage)
        return made


def _copy_between(target: Any, source: Any, is_async: bool) -> Any:
    """``target.copy_(source)`` of storages: waits as the same copy between tensors does."""
    from bagel_perf.simulated.device import active_device
    from bagel_perf.simulated.transfers import count_copy

    device = active_device()
    is_upload = isinstance(target, SimulatedStorage)
    inner = torch_names.untyped(source)
    if device is not None and isinstance(inner, torch.UntypedStorage):
        is_download = isinstance(inner, SimulatedStorage)
        if is_upload != is_download:
            host = inner if is_upload else target
            count_copy(device, _bytes_of(inner), _bytes_of(host), inner.nbytes(), is_async=is_async)
    with hidden():
        _native.copy_(target, inner, is_async)
    return target


def _bytes_of(storage: Any) -> torch.Tensor:
    """The storage as a tensor, on its device."""
    with hidden():
        tensor = torch.empty(0, dtype=torch.uint8)
        tensor.set_(storage)
        return wrap(tensor) if isinstance(storage, SimulatedStorage) else tensor


def occupied(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    """Makes a CPU storage, the object itself, one of the device."""
    state: Any = storage
    state.__class__ = SimulatedStorage
    return storage


def _upload(device: SimulatedDevice, storage: torch.UntypedStorage, is_async: bool) -> torch.UntypedStorage:
    """A copy of a host storage on the device."""
    made: torch.UntypedStorage = _copy_between(occupied(torch.UntypedStorage(storage.nbytes())), storage, is_async)
    return made


def patch_storages(patches: Patches, device: SimulatedDevice) -> None:
    """Replaces what makes, moves and copies storages."""
    patches.replace(torch_names.STORAGE_CUDA, lambda native: _to_device(device))
    patches.replace(torch_names.STORAGE_TO, lambda native: _moves(device, native))
    patches.replace(torch_inner_names.WRAP_STORAGE, _wraps)
    patches.add(torch.UntypedStorage, "copy_", _copy_)
    patches.add(torch.UntypedStorage, "__new__", staticmethod(_makes(device)))
    native = torch.is_storage
    patches.add(torch, "is_storage", lambda value, /: isinstance(value, SimulatedStorage) or native(value))


def _copy_(storage: Any, source: Any, non_blocking: bool | None = None) -> Any:
    return _copy_between(storage, source, bool(non_blocking))


def _makes(owner: SimulatedDevice) -> Any:
    """``UntypedStorage(size, device=...)``."""

    def new(cls: Any, *args: Any, device: Any = None, **kwargs: Any) -> Any:
        if device is None or not owner.owns(device):
            kwargs |= {} if device is None else {"device": device}
            return _new_storage(cls, *args, **kwargs)
        return occupied(_new_storage(torch.UntypedStorage, *args, **kwargs))

    return new


def _wraps(native: Any) -> Any:
    """``TypedStorage._new_wrapped_storage``, which takes storages of torch's own type alone."""

    def wrap_storage(storage: Any, untyped_storage: Any) -> Any:
        if not isinstance(untyped_storage, SimulatedStorage):
            return native(storage, untyped_storage)
        with _as_the_hosts(untyped_storage):
            return native(storage, untyped_storage)

    return wrap_storage


def _to_device(device: SimulatedDevice) -> Any:
    """``UntypedStorage.cuda``."""

    def cuda(storage: torch.UntypedStorage, target: Any = None, non_blocking: bool = False) -> torch.UntypedStorage:
        return _upload(device, storage, non_blocking)

    return cuda


def _moves(device: SimulatedDevice, native: Any) -> Any:
    """``UntypedStorage.to``."""

    def to(storage: Any, *, device: Any, non_blocking: bool = False) -> Any:
        is_on_device = isinstance(storage, SimulatedStorage)
        if owner.owns(device):
            return storage if is_on_device else _upload(owner, storage, non_blocking)
        if is_on_device and torch.device(device).type == "cpu":
            return _copy_between(torch.UntypedStorage(storage.nbytes()), storage, non_blocking)
        return native(storage, device=device, non_blocking=non_blocking)

    owner = device
    return to


def _untyped_storage(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    with hidden():
        storage = func(*args, **kwargs)
        return occupied(storage) if type(args[0]) is SimulatedTensor else storage


def _set_(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """``Tensor.set_`` of a storage, typed or not, or of another tensor."""
    source = args[1] if len(args) > 1 else kwargs.get("source")
    inner = torch_names.untyped(source)
    is_from_device = isinstance(inner, (SimulatedStorage, SimulatedTensor))
    if source is not None and is_from_device != (type(args[0]) is SimulatedTensor):
        raise devices_differ(device, func)
    with hidden():
        return func(*args, **kwargs)


def _reduce(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """Pickled as an ordinary tensor or parameter of a CUDA program, so that files can be read anywhere."""
    tensor, protocol = args
    if type(tensor) is not SimulatedTensor:
        return func(*args, **kwargs)
    with device.intercepting():
        if isinstance(tensor, torch.nn.Parameter):
            return _rebuild_parameter, (tensor.data, tensor.requires_grad, {})
        return _reduce_ex_internal(tensor, protocol)


def _dlpack_device(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    return (torch.utils.dlpack.DLDeviceType.kDLCUDA, 0) if type(args[0]) is SimulatedTensor else func(*args, **kwargs)


def _deepcopy(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    import copy

    tensor, memo = args
    if type(tensor) is not SimulatedTensor:
        return func(*args, **kwargs)
    if id(tensor) in memo:
        return memo[id(tensor)]
    with hidden():
        source = to_plain(tensor.detach()).requires_grad_(tensor.requires_grad) if tensor.is_leaf else to_plain(tensor)
        with _as_the_hosts(source.untyped_storage()):
            copied = wrap(copy.deepcopy(source, memo))
    for name, value in tensor.__dict__.items():
        setattr(copied, name, copy.deepcopy(value, memo))
    memo[id(tensor)] = copied
    return copied


@contextmanager
def _as_the_hosts(storage: torch.UntypedStorage) -> Iterator[None]:
    """A storage under the type that torch expects; the object is the same as long as its tensor lives."""
    kind, state = type(storage), storage
    state.__class__ = torch.UntypedStorage
    try:
        yield
    finally:
        state.__class__ = kind


HANDLERS: dict[str, Handler] = {
    "untyped_storage": _untyped_storage,
    "set_": _set_,
    "__reduce_ex__": _reduce,
    "__deepcopy__": _deepcopy,
    "__dlpack_device__": _dlpack_device,
}

_STUB = (int, ())
_unheard: Any = vars(queues.Queue)["_on_queue_feeder_error"].__func__
"""Prints what the thread of a queue could not send, and nobody hears of it."""


def patch_sending(patches: Patches, device: SimulatedDevice) -> None:
    """Has the pickler of ``multiprocessing`` refuse, and queues as soon as something is put: their thread is deaf."""
    patches.add(ForkingPickler, "reducer_override", _refuse)
    for kind in (queues.Queue, queues.JoinableQueue):
        patches.add(kind, "put", _checking(device, kind.put))


def _refuse(pickler: Any, value: Any) -> Any:
    if isinstance(value, (SimulatedTensor, SimulatedStorage)):
        reason = "CUDA would share its memory; send a copy on the host, as tensor.cpu()"
        raise NotSimulated("a device tensor sent to another process", reason)
    return NotImplemented


def _checking(device: SimulatedDevice, put: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(put)
    def checked(queue: Any, obj: Any, *args: Any, **kwargs: Any) -> None:
        kind: Any = type(queue)
        if device.was_used and kind._on_queue_feeder_error is _unheard:  # that of an executor tells who waits for it
            _check(obj)
        put(queue, obj, *args, **kwargs)

    return checked


def _check(value: Any) -> None:
    """Raises NotSimulated for a value that holds a device tensor; any other trouble is left to who sends it."""
    try:
        _Probe(_Nowhere(), protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    except NotSimulated:
        raise
    except Exception:
        return


class _Nowhere:
    def write(self, data: Any) -> int:
        return len(data)


class _Probe(pickle.Pickler):
    """Goes through a value as a pickler would, past what shares memory or files with another process."""

    def reducer_override(self, value: Any) -> Any:
        shared = getattr(ForkingPickler, "_extra_reducers", {})
        found = _refuse(self, value)
        return _STUB if type(value) in shared or isinstance(value, np.ndarray) else found
