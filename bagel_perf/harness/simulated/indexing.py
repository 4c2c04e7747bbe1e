"""Reading and writing by index: masks are counted on the device, lists and host tensors are uploaded, numbers may be.

Follows torch/csrc/autograd/python_variable_indexing.cpp: on CUDA a Python number that is assigned becomes a 0-d host
tensor. It is copied, which waits, where the target is a single element; it is uploaded where integer indices choose the
targets; otherwise, also through one mask, it is filled in without a wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bagel_perf.harness.simulated.calls import Args, Func, Handler, Kwargs, devices_differ
from bagel_perf.harness.simulated.tensor import SimulatedTensor, hidden, wrap
from bagel_perf.harness.simulated.transfers import count_copy
from bagel_perf.harness.simulated.verdicts import MASK_DTYPES

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice

_PLAIN = frozenset((int, slice, type(None), type(Ellipsis)))


@dataclass(slots=True)
class _Index:
    """What an index of a device tensor holds."""

    num_integers: int = 0
    num_masks: int = 0
    num_tensors: int = 0
    num_uploads: int = 0
    spreads: bool = False
    num_reads: int = 0


def _parse(index: Any) -> _Index:
    found = _Index()
    for part in index if type(index) is tuple else (index,):
        if isinstance(part, Tensor):
            _parse_tensor(found, part)
        elif part is None or part is Ellipsis:
            found.spreads = True
        elif isinstance(part, slice):
            found.spreads = True
            found.num_reads += sum(type(bound) is SimulatedTensor for bound in (part.start, part.stop, part.step))
        elif isinstance(part, bool):
            found.num_tensors += 1
        elif hasattr(part, "__index__"):
            found.num_integers += 1
        else:
            _parse_sequence(found, part)
    return found


def _parse_tensor(found: _Index, part: Tensor) -> None:
    with hidden():
        num_dims, is_mask, is_empty = part.dim(), part.dtype in MASK_DTYPES, part.numel() == 0
    is_on_device = type(part) is SimulatedTensor
    if num_dims == 0 and not is_mask:
        found.num_integers += 1
        found.num_reads += is_on_device
        return
    found.num_tensors += 1
    if is_on_device:
        found.num_masks += is_mask
    elif not is_mask and not is_empty:  # a host mask becomes row numbers in pinned memory: these do not wait
        found.num_uploads += 1


def _parse_sequence(found: _Index, part: Any) -> None:
    items = list(part)
    found.num_tensors += 1
    found.num_uploads += bool(items)
    found.num_masks += bool(items) and all(isinstance(item, bool) for item in items)
    found.num_reads += sum(type(item) is SimulatedTensor for item in items)


def _get(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor, index = args
    is_on_device = type(tensor) is SimulatedTensor
    kind = type(index)
    if kind in _PLAIN and kind is not slice:
        with hidden():
            value = func(*args)
            return wrap(value) if is_on_device else value
    found = _parse(index)
    if not is_on_device:
        return _get_from_host(device, func, args, found)
    device.waits("scalar_read", found.num_reads)
    device.waits("pageable_upload", found.num_uploads)
    device.waits("mask_gather", found.num_masks)
    with hidden():
        return wrap(func(*args))


def _get_from_host(device: SimulatedDevice, func: Func, args: Args, found: _Index) -> Any:
    parts = args[1] if type(args[1]) is tuple else (args[1],)
    if any(type(part) is SimulatedTensor and part.dim() for part in parts):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    device.waits("scalar_read", found.num_reads)
    with hidden():
        return func(*args)


def _set(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> None:
    tensor, index, value = args
    found = _parse(index)
    device.waits("scalar_read", found.num_reads)
    if type(tensor) is SimulatedTensor:
        _count_write(device, func, tensor, found, value)
    elif type(value) is SimulatedTensor:
        if found.num_tensors:
            raise devices_differ(device, func)
        count_copy(device, value, tensor, is_async=False)
    with hidden():
        func(*args)


def _count_write(device: SimulatedDevice, func: Func, tensor: Tensor, found: _Index, value: Any) -> None:
    device.waits("pageable_upload", found.num_uploads)
    _count_value(device, func, tensor, found, value)
    device.waits("mask_scatter", _num_written_masks(found, value))


def _is_host_scalar(value: Any) -> bool:
    if not isinstance(value, Tensor):
        return True
    with hidden():
        return type(value) is not SimulatedTensor and value.dim() == 0


def _num_written_masks(found: _Index, value: Any) -> int:
    """A host scalar written through one mask alone is a ``masked_fill``."""
    is_fill = _is_host_scalar(value) and found.num_tensors == 1
    return 0 if is_fill else found.num_masks


def _count_value(device: SimulatedDevice, func: Func, tensor: Tensor, found: _Index, value: Any) -> None:
    if type(value) is SimulatedTensor:
        return
    if not _is_host_scalar(value):
        if found.num_tensors:
            raise devices_differ(device, func)
        count_copy(device, value, value, is_async=False)
    elif found.num_tensors:
        is_fill = found.num_tensors == found.num_masks == 1
        device.waits("integer_index_write", not is_fill)
    else:
        with hidden():
            is_element = not found.spreads and found.num_integers == tensor.dim()
        device.waits("integer_index_write", is_element)


def _gather(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """``aten::index``: indices come as a list, None where a dimension is kept."""
    return _get(device, _getitem, types, (args[0], _as_tuple(args[1])), {})


def _scatter(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """``index_put`` and ``index_put_``."""
    tensor = args[0]
    indices = args[1] if len(args) > 1 else kwargs["indices"]
    values = args[2] if len(args) > 2 else kwargs["values"]
    if SimulatedTensor in (type(tensor), type(values)):
        _count_write(device, func, tensor, _parse(_as_tuple(indices)), values)
    with hidden():
        result = func(*args, **kwargs)
        return wrap(result) if type(tensor) is SimulatedTensor else result


def _as_tuple(indices: Sequence[Tensor | None]) -> tuple[Any, ...]:
    return tuple(slice(None) if index is None else index for index in indices)


def _getitem(tensor: Tensor, index: Any) -> Tensor:
    return torch.Tensor.__getitem__(tensor, index)


HANDLERS: dict[str, Handler] = {
    "__getitem__": _get,
    "__setitem__": _set,
    "index": _gather,
    "index_put": _scatter,
    "index_put_": _scatter,
}
