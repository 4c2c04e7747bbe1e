"""Storages of the simulated device, for programs that reach below tensors, as ``torch.save`` and ``torch.load`` do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from bagel_perf.harness import torch_names
from bagel_perf.harness.simulated.calls import Args, Func, Handler, Kwargs, devices_differ
from bagel_perf.harness.simulated.tensor import DEVICE, SimulatedTensor, hidden, to_plain, wrap

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice


_reduce_ex_internal: Any = torch_names.REDUCE_EX.find()
_rebuild_parameter: Any = torch_names.REBUILD_PARAMETER.find()


class SimulatedStorage(torch.UntypedStorage):
    """A CPU storage that says that it is the device's."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE

    def cpu(self) -> torch.UntypedStorage:
        """A copy on the host; waits."""
        _waits("d2h_copy", self)
        return _copied(self)

    def cuda(self, device: Any = None, non_blocking: bool = False) -> Any:
        return self

    def clone(self) -> Any:
        return occupied(_copied(self))

    def tolist(self) -> list[Any]:
        """Its bytes; each is read by itself."""
        return list(self)

    def __getitem__(self, index: Any) -> Any:
        _waits("scalar_read", self)
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


def _waits(kind: Any, storage: torch.UntypedStorage) -> None:
    from bagel_perf.harness.simulated.device import active_device

    device = active_device()
    if device is not None and storage.nbytes():
        device.waits(kind)


def _copied(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    with hidden():
        made = torch.UntypedStorage(storage.nbytes())
        torch.UntypedStorage.copy_(made, storage)
        return made


def occupied(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    """Makes a CPU storage, the object itself, one of the device."""
    state: Any = storage
    state.__class__ = SimulatedStorage
    return storage


def upload(device: SimulatedDevice, storage: torch.UntypedStorage) -> torch.UntypedStorage:
    """A copy of a host storage on the device; waits."""
    if storage.nbytes():
        device.waits("pageable_upload")
    return occupied(_copied(storage))


def to_device(device: SimulatedDevice) -> Any:
    """``UntypedStorage.cuda``."""

    def cuda(storage: torch.UntypedStorage, target: Any = None, non_blocking: bool = False) -> torch.UntypedStorage:
        return upload(device, storage)

    return cuda


def moves(device: SimulatedDevice, native: Any) -> Any:
    """``UntypedStorage.to``."""

    def to(storage: Any, *, device: Any, non_blocking: bool = False) -> Any:
        if owner.owns(device):
            return storage if isinstance(storage, SimulatedStorage) else upload(owner, storage)
        is_download = isinstance(storage, SimulatedStorage) and torch.device(device).type == "cpu"
        return storage.cpu() if is_download else native(storage, device=device, non_blocking=non_blocking)

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
}
