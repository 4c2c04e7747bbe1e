"""Values and facts that the host asks a tensor for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bagel_perf.harness.simulated.calls import Args, Func, Handler, Kwargs
from bagel_perf.harness.simulated.tensor import SimulatedTensor, hidden, to_plain, to_simulated, wrap

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice


def _read(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    if type(args[0]) is SimulatedTensor:
        device.waits("scalar_read")
    with hidden():
        return func(*args, **kwargs)


def _read_list(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    if type(args[0]) is SimulatedTensor and args[0].numel():
        device.waits("d2h_copy")
    with hidden():
        return func(*args, **kwargs)


def _format(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    if type(args[0]) is not SimulatedTensor:
        return func(*args, **kwargs)
    tensor, spec = args
    if tensor.dim():
        return format(repr(tensor), spec)
    device.waits("scalar_read")
    with hidden():
        return format(tensor.item(), spec)


def _iterate(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    if type(args[0]) is not SimulatedTensor:
        return func(*args, **kwargs)
    with hidden():
        return iter(wrap(list(func(*args, **kwargs))))


def _refuse_numpy(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    if type(args[0]) is not SimulatedTensor:
        return func(*args, **kwargs)
    raise TypeError(f"can't convert {device.device} tensor to numpy; use Tensor.cpu() to copy it to the host first")


def _deepcopy(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    if type(args[0]) is not SimulatedTensor:
        return func(*args, **kwargs)
    with hidden():
        tensor = args[0]
        source = to_plain(tensor.detach()).requires_grad_(tensor.requires_grad) if tensor.is_leaf else to_plain(tensor)
        copied = to_simulated(copy.deepcopy(source, *args[1:]))
        if getattr(tensor, "_is_param", False):
            copied._is_param = True
        args[1][id(tensor)] = copied
        return copied


def _fact(value_of: Callable[[SimulatedDevice], Any]) -> Handler:
    """A property that depends on where a tensor lives."""

    def get(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        return value_of(device) if type(args[0]) is SimulatedTensor else func(*args, **kwargs)

    return get


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(
        ("item", "_local_scalar_dense", "__bool__", "__int__", "__float__", "__index__", "__complex__"), _read
    ),
    "is_nonzero": _read,
    "tolist": _read_list,
    "__format__": _format,
    "__iter__": _iterate,
    "numpy": _refuse_numpy,
    "__array__": _refuse_numpy,
    "__deepcopy__": _deepcopy,
    "get device": _fact(lambda device: device.device),
    "get is_cpu": _fact(lambda device: False),
    "get is_cuda": _fact(lambda device: device.device.type == "cuda"),
    "get_device": _fact(lambda device: device.device.index),
}
