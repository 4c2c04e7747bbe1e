"""Values and facts that the host asks a tensor for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from bagel_perf.harness import torch_names
from bagel_perf.harness.simulated.calls import Args, Func, Handler, Kwargs, name_of
from bagel_perf.harness.simulated.tensor import SimulatedTensor, hidden, to_simulated, wrap

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice


def _read(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor = args[0]
    if type(tensor) is SimulatedTensor:
        with hidden():
            fails = tensor.numel() != 1 or (name_of(func) == "__index__" and not _is_integral(tensor))
        device.waits("scalar_read", not fails)  # torch looks at shape and type first
    with hidden():
        return func(*args, **kwargs)


def _is_integral(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex())


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


def _numpy(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    if type(args[0]) is not SimulatedTensor:
        return func(*args, **kwargs)
    if not kwargs.get("force"):
        raise TypeError(f"can't convert {device.device} tensor to numpy; use Tensor.cpu() to copy it to the host first")
    return args[0].detach().cpu().numpy(force=True)


def _refuse(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    if type(args[0]) is not SimulatedTensor:
        return func(*args, **kwargs)
    raise RuntimeError(f"{name_of(func)} is not simulated: the memory of {device.device} is not a GPU's")


def _repr(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """Torch's own formatting, which reads the values it prints one by one."""
    if type(args[0]) is not SimulatedTensor:
        return func(*args, **kwargs)
    with device.intercepting():
        text = torch_names.TENSOR_TEXT.find()(args[0], **kwargs)
    if not isinstance(args[0], nn.Parameter):
        return text
    inner = text.removeprefix("Parameter(").removesuffix(")") if text.startswith("Parameter(") else text
    return f"Parameter containing:\n{inner}"


def _base(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """May be the host tensor that was given to ``SimulatedDevice.wrap``, whose type is not ours to change."""
    with hidden():
        base = func(*args)
        return to_simulated(base) if type(args[0]) is SimulatedTensor and type(base) is Tensor else base


def _fact(value_of: Callable[[SimulatedDevice], Any]) -> Handler:
    """A property that depends on where a tensor lives."""

    def get(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        return value_of(device) if type(args[0]) is SimulatedTensor else func(*args, **kwargs)

    return get


def _only_on_the_host(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    if type(args[0]) is not SimulatedTensor:
        return func(*args, **kwargs)
    raise TypeError(f"{name_of(func)} is only implemented on CPU tensors")


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("apply_", "map_", "map2_"), _only_on_the_host),
    **dict.fromkeys(
        ("item", "_local_scalar_dense", "__bool__", "__int__", "__float__", "__index__", "__complex__"), _read
    ),
    "is_nonzero": _read,
    "tolist": _read_list,
    "__format__": _format,
    "__iter__": _iterate,
    "__repr__": _repr,
    "numpy": _numpy,
    "__array__": _numpy,
    **dict.fromkeys(("__dlpack__", "get __cuda_array_interface__"), _refuse),
    "get _base": _base,
    "get device": _fact(lambda device: device.device),
    "get is_cpu": _fact(lambda device: False),
    "get is_cuda": _fact(lambda device: device.device.type == "cuda"),
    "get_device": _fact(lambda device: device.device.index),
}
