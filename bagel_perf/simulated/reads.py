"""What the host asks a tensor for, and what it reads and writes by index.

What waits by index is told by ``rules.calls``, and copies from the host are counted.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bagel_perf.records.sites import Kind
from bagel_perf.rules import torch_names
from bagel_perf.rules.calls import as_index, index_of, read_by_index, write_by_index
from bagel_perf.rules.copies import index_sizes, written_bytes
from bagel_perf.rules.operators import MASK_DTYPES
from bagel_perf.simulated.calls import Args, Func, Handler, Kwargs, devices_differ, name_of
from bagel_perf.simulated.tensor import SimulatedTensor, hidden, is_simulated, to_simulated, wrap
from bagel_perf.simulated.transfers import bytes_of, count_copy

if TYPE_CHECKING:
    from bagel_perf.simulated.device import SimulatedDevice


def _read(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor = args[0]
    if type(tensor) is SimulatedTensor:
        with hidden():
            fails = tensor.numel() != 1 or (name_of(func) == "__index__" and not _is_integral(tensor))
            num_bytes = tensor.element_size()
        device.waits("scalar_read", not fails, num_bytes)  # torch looks at shape and type first
    with hidden():
        return func(*args, **kwargs)


def _is_integral(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex())


def _read_list(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    if type(args[0]) is SimulatedTensor and (num_bytes := bytes_of(args[0])):
        device.waits("d2h_copy", 1, num_bytes)
    with hidden():
        return func(*args, **kwargs)


def _format(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    if type(args[0]) is not SimulatedTensor:
        return func(*args, **kwargs)
    tensor, spec = args
    if tensor.dim():
        return format(repr(tensor), spec)
    device.waits("scalar_read", 1, bytes_of(tensor))
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


READ_HANDLERS: dict[str, Handler] = {
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

_PLAIN = frozenset((int, type(None), type(Ellipsis)))


def _report(device: SimulatedDevice, kinds: Iterable[Kind], sizes: Iterable[int | None]) -> None:
    """Tells of waits; those that copy come first, each with its size."""
    for kind, num_bytes in zip_longest(kinds, sizes):
        if kind is not None:
            device.waits(kind, 1, num_bytes)


def _get(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor, index = args
    is_on_device = is_simulated(tensor)
    if type(index) not in _PLAIN:
        with hidden():
            if not is_on_device:
                _check_host_index(index)
            kinds, sizes = read_by_index(tensor, index, is_simulated), list(index_sizes(index, is_simulated))
        _report(device, kinds, sizes)
        hosts = _note_hosts(device, index) if is_on_device and torch.is_grad_enabled() else []
        if hosts:
            return _got_by_uploads(device, func, args, hosts)
    with hidden():
        value = func(*args)
        return wrap(value) if is_on_device else value


def _note_hosts(device: SimulatedDevice, index: Any) -> list[int | None]:
    """Bytes of each host tensor of an index, which is uploaded; host masks are remembered for the backward pass."""
    parts = [part for part in (index if type(index) is tuple else (index,)) if isinstance(part, Tensor)]
    hosts = [part for part in parts if not is_simulated(part)]
    with hidden():
        for mask in (part for part in hosts if part.dtype in MASK_DTYPES):
            device.host_masks[id(mask)] = weakref.ref(mask, partial(_forget, device.host_masks, id(mask)))
        return list(index_sizes(tuple(hosts), is_simulated))


def _forget(masks: dict[int, Any], key: int, gone: Any) -> None:
    masks.pop(key, None)


def _got_by_uploads(device: SimulatedDevice, func: Func, args: Args, sizes: list[int | None]) -> Any:
    """Autograd keeps a tensor in an index as it was given, so the backward pass uploads it once more."""
    with hidden():
        value = wrap(func(*args))
        if value.grad_fn is not None:
            value.grad_fn.register_prehook(lambda gradients: device.reads("pageable_upload", sizes))
        return value


def _check_host_index(index: Any) -> None:
    for part in index if type(index) is tuple else (index,):
        if is_simulated(part) and part.dim():
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")


def _set(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> None:
    tensor, index, value = args
    if is_simulated(tensor):
        _count_write(device, func, tensor, index, value)
    else:
        with hidden():
            found = index_of(index, is_simulated)
            sizes = list(index_sizes(index, is_simulated))
        device.reads("scalar_read", sizes[: found.num_reads])
        if is_simulated(value):
            if found.num_tensors and value.dim():
                raise devices_differ(device, func)
            count_copy(device, value, tensor, _written_bytes(tensor, index, value), is_async=False)
    with hidden():
        func(*args)


def _written_bytes(tensor: Tensor, index: Any, value: Any) -> int | None:
    with hidden():
        return written_bytes(tensor, index, value, is_simulated)


def _count_write(device: SimulatedDevice, func: Func, tensor: Tensor, index: Any, value: Any) -> None:
    with hidden():
        kinds = write_by_index(tensor, index, value, is_simulated)
        sizes = [*index_sizes(index, is_simulated), tensor.element_size()]
        is_host_tensor = isinstance(value, Tensor) and not is_simulated(value) and value.dim() > 0
        has_tensors = is_host_tensor and index_of(index, is_simulated).num_tensors > 0
    if has_tensors:
        raise devices_differ(device, func)
    if torch.is_grad_enabled():
        _note_hosts(device, index)
    _report(device, kinds, sizes)
    if is_host_tensor:
        count_copy(device, value, value, _written_bytes(tensor, index, value), is_async=False)


def _gather(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """``aten::index``: indices come as a list, None where a dimension is kept."""
    return _get(device, _getitem, types, (args[0], as_index(args[1])), {})


def _scatter(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """``index_put`` and ``index_put_``."""
    tensor = args[0]
    indices = args[1] if len(args) > 1 else kwargs["indices"]
    values = args[2] if len(args) > 2 else kwargs["values"]
    if is_simulated(tensor) or is_simulated(values):
        _count_write(device, func, tensor, as_index(indices), values)
    with hidden():
        result = func(*args, **kwargs)
        return wrap(result) if is_simulated(tensor) else result


def _getitem(tensor: Tensor, index: Any) -> Tensor:
    return torch.Tensor.__getitem__(tensor, index)


INDEX_HANDLERS: dict[str, Handler] = {
    "__getitem__": _get,
    "__setitem__": _set,
    "index": _gather,
    "index_put": _scatter,
    "index_put_": _scatter,
}
