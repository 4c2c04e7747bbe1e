"""Copies between host and device: they wait, unless they are asynchronous and the host's side is pinned.

``torch.cuda._gpu_trace`` reports no wait for an asynchronous copy of pageable memory, although the driver stages it. It
is not counted here either, but named in ``unjudged``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bagel_perf.harness.simulated.calls import CPU, Args, Func, Handler, Kwargs, plain
from bagel_perf.harness.simulated.tensor import DEVICE, SimulatedTensor, hidden, wrap

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice


def _to(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor, options = args[0], _to_options(args[1:], kwargs)
    target = options.pop("device", None)
    is_on_device = type(tensor) is SimulatedTensor
    if target is not None and not device.owns(target) and torch.device(target).type != "cpu":
        return func(*args, **kwargs)
    goes_to_device = is_on_device if target is None else device.owns(target)
    return move(device, tensor, goes_to_device, options)


def _to_options(positional: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``Tensor.to`` by name: (other, ...), (dtype, ...) or (device, dtype, ...)."""
    named = dict(named)
    if "other" in named:
        positional = (named.pop("other"), *positional)
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
    is_crossing = is_on_device != goes_to_device
    is_async = bool(options.get("non_blocking"))
    if is_crossing:
        options = {**options, "copy": True}
        if not (is_on_device and is_async):  # an asynchronous download allocates pinned memory for itself
            count_copy(device, tensor, tensor, is_async=is_async)
    with hidden():
        moved: Tensor = tensor.to(device=CPU, **options)
        if moved is tensor:
            return tensor
        if goes_to_device:
            moved = wrap(moved)
        elif is_crossing and is_async:
            device.pinned.add(moved)
    return moved


def count_copy(device: SimulatedDevice, source: Tensor, host: Tensor, *, is_async: bool) -> None:
    """Reports the wait of a copy across devices from ``source``; ``host`` is the side of it in host memory."""
    with hidden():
        is_empty, is_pinned = source.numel() == 0, device.pinned.holds(host)
    if is_empty:
        return
    is_download = type(source) is SimulatedTensor
    if not is_async:
        device.waits("d2h_copy" if is_download else "pageable_upload")
    elif not is_pinned:
        device.unjudged.add("asynchronous copy of pageable memory")


def _cpu(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    if type(args[0]) is not SimulatedTensor:
        return func(*args, **kwargs)
    return move(device, args[0], False, kwargs)


def _copy_(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    target: Tensor = args[0]
    source: Tensor = args[1] if len(args) > 1 else kwargs["src" if "src" in kwargs else "other"]
    is_on_device = type(target) is SimulatedTensor
    if is_on_device != (type(source) is SimulatedTensor):
        is_async = bool(args[2] if len(args) > 2 else kwargs.get("non_blocking"))
        count_copy(device, source, source if is_on_device else target, is_async=is_async)
    with hidden():
        return func(*args, **kwargs)


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
    """Asked by ``Module.to``: a parameter that changes devices is replaced, not refilled."""
    with hidden():
        return (type(args[0]) is SimulatedTensor) == (type(args[1]) is SimulatedTensor) and func(*args)


def _masked_fill(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    if SimulatedTensor not in types:
        return func(*args, **kwargs)
    if type(args[2] if len(args) > 2 else kwargs["value"]) is SimulatedTensor:
        device.waits("scalar_read")  # CUDA's kernel takes the value as a host scalar
    return plain(device, func, args, kwargs)


HANDLERS: dict[str, Handler] = {
    "to": _to,
    "_to_copy": _to,
    "cpu": _cpu,
    "copy_": _copy_,
    "pin_memory": _pin_memory,
    "is_pinned": _is_pinned,
    "_has_compatible_shallow_copy_type": _is_swappable,
    "masked_fill": _masked_fill,
    "masked_fill_": _masked_fill,
}
