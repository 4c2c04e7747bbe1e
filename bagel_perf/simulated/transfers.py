"""Copies between host and device: they wait, unless they are asynchronous and the host's side is pinned.

Which host memory the program has pinned is remembered here. No witness on a GPU saw a wait for an asynchronous copy of
pageable memory, although the driver stages it. It is not counted here either, but named in ``hazards``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bagel_perf.rules import torch_names
from bagel_perf.rules.calls import DOWNLOAD, UPLOAD, is_staged
from bagel_perf.rules.copies import crossing_bytes, moved_bytes
from bagel_perf.simulated.autograd import cross
from bagel_perf.simulated.calls import CPU, Args, Func, Handler, Kwargs, has_values, is_elsewhere, run_elsewhere
from bagel_perf.simulated.tensor import DEVICE, SimulatedTensor, hidden, occupy, vacate, wrap

if TYPE_CHECKING:
    from bagel_perf.simulated.device import SimulatedDevice

_WeakRef: Any = torch_names.STORAGE_REF.find()


class PinnedMemory:
    """Pinned storages, held weakly: all views of a storage are pinned, and memory is freed as usual."""

    def __init__(self) -> None:
        self._storages: dict[int, Any] = {}

    def add(self, tensor: Tensor) -> Tensor:
        """Takes the memory of ``tensor`` for pinned; gives ``tensor``."""
        self._storages = {key: ref for key, ref in self._storages.items() if not ref.expired()}
        storage = tensor.untyped_storage()
        # A weak reference keeps the address from being given to another storage, so it may serve as key.
        self._storages[storage._cdata] = _WeakRef(storage)
        return tensor

    def holds(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._storages


def _to(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor, options = args[0], to_options(args[1:], kwargs)
    target = options.pop("device", None)
    if options.get("layout") in (None, torch.strided):  # ``_to_copy`` may say so, ``to`` not
        options.pop("layout", None)
    options = {name: value for name, value in options.items() if value is not None and name != "pin_memory"}
    is_on_device = type(tensor) is SimulatedTensor
    goes_to_device = is_on_device if target is None else device.owns(target)
    if not goes_to_device and (not is_on_device or is_elsewhere(device, target)):
        return run_elsewhere(func, args, kwargs)
    return move(device, tensor, goes_to_device, options)


def _type_as(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """``Tensor.type_as(other)`` is a copy to the other's device, of its type."""
    return _to(device, Tensor.to, types, (args[0], args[1] if len(args) > 1 else kwargs["other"]), {})


def to_options(positional: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``Tensor.to`` by name: (other, ...), (dtype, ...) or (device, dtype, ...)."""
    named = dict(named)
    for name in ("other", "tensor"):  # the operator's name for it, and the method's
        if name in named:
            positional = (named.pop(name), *positional)
    names: tuple[str, ...] = ("device", "dtype", "non_blocking", "copy")
    if positional and isinstance(positional[0], Tensor):
        positional = (_device_of(positional[0]), positional[0].dtype, *positional[1:])
    elif positional and isinstance(positional[0], torch.dtype):
        names = names[1:]
    return {**dict(zip(names, positional, strict=False)), **named}


def _device_of(tensor: Tensor) -> torch.device:
    return DEVICE if type(tensor) is SimulatedTensor else tensor.device


def move(device: SimulatedDevice, tensor: Tensor, goes_to_device: bool, options: dict[str, Any]) -> Tensor:
    """``tensor`` on the device or on the host, converted by the other options of ``Tensor.to``; a crossing copies."""
    is_on_device = type(tensor) is SimulatedTensor
    if is_on_device == goes_to_device:
        with hidden():
            moved: Tensor = tensor.to(device=CPU, **options)
            return wrap(moved) if goes_to_device else moved
    if not is_on_device:
        _check_type(tensor)
        if not has_values(tensor):
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")
    is_async = bool(options.get("non_blocking"))
    num_bytes = _moved_bytes(tensor, options, is_async=is_async)
    if is_on_device and is_async and tensor.layout is torch.strided:  # allocates pinned memory for itself
        if num_bytes:
            device.on_copy(is_download=True, num_bytes=num_bytes, waits=False)
    else:
        count_copy(device, tensor, tensor, num_bytes, is_async=is_async)
    if not (torch.is_grad_enabled() and tensor.requires_grad):
        return _crossed(device, tensor, options)
    return cross(
        lambda source: _crossed(device, source, options),
        lambda gradient: move(device, gradient, is_on_device, {"dtype": tensor.dtype}),
        tensor,
    )


def _crossed(device: SimulatedDevice, tensor: Tensor, options: dict[str, Any]) -> Tensor:
    """A copy on the other side."""
    with hidden():
        moved: Tensor = tensor.to(device=CPU, **{**options, "copy": True})
        if type(tensor) is not SimulatedTensor:
            occupy(moved)
        elif options.get("non_blocking") and moved.layout is torch.strided:
            device.pinned.add(moved)
        return moved


def _check_type(tensor: Tensor) -> None:
    if nn.parameter.is_lazy(tensor):
        raise RuntimeError("a lazy parameter cannot be moved to the simulated device before its module has run once")
    if type(tensor) is not Tensor and not isinstance(tensor, nn.Parameter):
        raise RuntimeError(
            f"a {type(tensor).__name__} cannot be moved to the simulated device, which knows torch.Tensor and "
            "torch.nn.Parameter but no other types of tensors; move it as x.as_subclass(torch.Tensor)"
        )


def _moved_bytes(tensor: Tensor, options: dict[str, Any], *, is_async: bool) -> int | None:
    is_upload = type(tensor) is not SimulatedTensor
    with hidden():
        if tensor.layout is not torch.strided:
            return None
        return moved_bytes((tensor,), options, is_upload=is_upload, is_async=is_async)


def count_copy(device: SimulatedDevice, source: Tensor, host: Tensor, num_bytes: int | None, *, is_async: bool) -> None:
    """Reports the wait of a copy across devices from ``source``; ``host`` is the side of it in host memory."""
    is_download = type(source) is SimulatedTensor
    with hidden():
        if source.layout is not torch.strided:  # copied part by part, which nobody measured
            device.on_copy(is_download=is_download, num_bytes=None, waits=False)
            device.cannot_judge(f"copy of a {source.layout} tensor across devices")
            return
        is_empty, goes_through = source.numel() == 0, is_staged(host, device.pinned.holds)
    if is_empty:
        return
    device.on_copy(is_download=is_download, num_bytes=num_bytes, waits=not is_async)
    if not is_async:
        device.waits("d2h_copy" if is_download else "pageable_upload", 1, num_bytes)
    elif goes_through:
        device.warns(DOWNLOAD if is_download else UPLOAD)


def _cpu(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    if type(args[0]) is not SimulatedTensor:
        return func(*args, **kwargs)
    return move(device, args[0], False, kwargs)


def _copy_(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    source: Tensor = args[1] if len(args) > 1 else kwargs["src" if "src" in kwargs else "other"]
    _count_pair(device, args[0], source, is_async=bool(args[2] if len(args) > 2 else kwargs.get("non_blocking")))
    with hidden():
        return func(*args, **kwargs)


def _count_pair(device: SimulatedDevice, target: Tensor, source: Tensor, *, is_async: bool) -> None:
    """Reports a copy from the second to the first where it crosses devices."""
    is_upload = type(target) is SimulatedTensor
    if is_upload == (type(source) is SimulatedTensor) or not (has_values(source) and has_values(target)):
        return
    with hidden():
        numel, source_type, target_type = target.numel(), source.dtype, target.dtype
    num_bytes = crossing_bytes(numel, source_type, target_type, is_upload=is_upload, is_async=is_async)
    count_copy(device, source, source if is_upload else target, num_bytes, is_async=is_async)


def bytes_of(tensor: Tensor) -> int:
    """Of a tensor's elements."""
    with hidden():
        return tensor.nbytes


def _pin_memory(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor = args[0]
    if type(tensor) is SimulatedTensor:
        raise RuntimeError(f"cannot pin a tensor on {device.device}, only dense CPU tensors can be pinned")
    with hidden():
        return tensor if device.pinned.holds(tensor) else device.pinned.add(tensor.clone())


def _is_pinned(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    with hidden():
        return type(args[0]) is not SimulatedTensor and device.pinned.holds(args[0])


def _is_swappable(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """Asked by ``Module.to``: CPU and CUDA tensors may take each other's data, so parameters stay the same objects."""
    with hidden():
        return func(*args)


def _set_data(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> None:
    """A tensor moves to where the data is that it is given."""
    tensor, data = args
    with hidden():
        func(*args)
    if type(data) is SimulatedTensor and type(tensor) is not SimulatedTensor:
        occupy(tensor)
    elif type(tensor) is SimulatedTensor and type(data) is not SimulatedTensor:
        vacate(tensor)


def _set_grad(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> None:
    tensor, gradient = args
    if isinstance(gradient, Tensor) and (type(tensor) is SimulatedTensor) != (type(gradient) is SimulatedTensor):
        raise RuntimeError("assigned grad has data located on a different device")
    with hidden():
        func(*args)


def _cuda(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """``Tensor.cuda(device, non_blocking, memory_format)``."""
    options = {**dict(zip(("device", "non_blocking", "memory_format"), args[1:], strict=False)), **kwargs}
    target = options.pop("device", None)
    if target is not None and not device.owns(target):
        raise ValueError(f"invalid device {target!r} for cuda(): must be a CUDA device")
    return move(device, args[0], True, options)


def _type(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """``Tensor.type()`` names the type; ``Tensor.type(dtype)`` converts, across devices where the name says so."""
    tensor, options = args[0], {**dict(zip(("dtype", "non_blocking"), args[1:], strict=False)), **kwargs}
    wanted = options.get("dtype")
    if wanted is None:
        with hidden():
            name: str = func(tensor)
        return name.replace("torch.", "torch.cuda.", 1) if type(tensor) is SimulatedTensor else name
    if isinstance(wanted, torch.dtype):
        return tensor.to(**options)
    name = wanted if isinstance(wanted, str) else f"{wanted.__module__}.{wanted.__name__}"
    with hidden():
        dtype = torch.empty(0).type(name.replace("torch.cuda.", "torch.")).dtype
    return move(device, tensor, name.startswith("torch.cuda."), {**options, "dtype": dtype})


def _nothing(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """Streams order the device's own work; memory of the device is shared without a copy."""
    return args[0] if type(args[0]) is SimulatedTensor else func(*args, **kwargs)


def _parse_to(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """What ``Module.to`` asks about its arguments; a number is this device."""

    def named(value: Any) -> Any:
        return device.device if type(value) is int and device.owns(value) else value

    kwargs = {name: named(value) if name == "device" else value for name, value in kwargs.items()}
    return func(*map(named, args[:1]), *args[1:], **kwargs)


def _foreach_copy(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """Copies pair by pair where they cross devices."""
    targets, sources = args[0], args[1] if len(args) > 1 else kwargs["src"]
    is_async = bool(args[2] if len(args) > 2 else kwargs.get("non_blocking"))
    for target, source in zip(targets, sources, strict=True):
        _count_pair(device, target, source, is_async=is_async)
    with hidden():
        return func(*args, **kwargs)


HANDLERS: dict[str, Handler] = {
    "to": _to,
    "_to_copy": _to,
    "type_as": _type_as,
    "cpu": _cpu,
    "copy_": _copy_,
    "pin_memory": _pin_memory,
    "is_pinned": _is_pinned,
    "cuda": _cuda,
    "type": _type,
    "set data": _set_data,
    "set grad": _set_grad,
    "share_memory_": _nothing,
    "_foreach_copy_": _foreach_copy,
    "_parse_to": _parse_to,
    "_has_compatible_shallow_copy_type": _is_swappable,
}
