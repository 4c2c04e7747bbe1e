"""Decides how many bytes a torch function copies between host and device, as it is called from Python.

A copy that changes the type is converted on the host where the host waits, and on the device where it does not (torch's
``copy_kernel_cuda``), so the type that crosses is the source's or the target's. One set of rules serves the simulated
device where its own copies do not tell, and the log of calls on a GPU. None stands for a number that nobody knows: what
operators copy inside, where it is not known from their sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from bagel_perf.records.copies import Direction
from bagel_perf.rules.calls import as_index, index_of, num_read_scalars, stands_for_tuple, takes_sizes
from bagel_perf.rules.operators import MASK_DTYPES, Args, Kwargs, OnDevice

Size = int | None
Sizes = tuple[list[Size], Size]
"""Bytes of the first waits of a call in their order, and of all further ones; those of what is no copy mean nothing."""
Copies = list[tuple[Direction, int]]

_READERS = frozenset(
    ["item", "__bool__", "__int__", "__float__", "__index__", "__complex__", "is_nonzero", "__format__"]
)
_ANSWERS = frozenset(["equal", "allclose", "__contains__"])
"""They read one bool."""
_MOVES = frozenset(["to", "cpu", "cuda", "numpy", "type", "type_as", "_to_copy"])
_DATA = frozenset(["tensor", "as_tensor", "asarray", "new_tensor"])
_LIMITS = frozenset(["linspace", "logspace", "masked_fill", "masked_fill_", "index_fill", "index_fill_"])
"""They read device scalars among their arguments."""
_LONG_BYTES = 8
MAY_BE_ASYNCHRONOUS = frozenset(["copy_", "to", "cuda", "_to_copy", "type", "_foreach_copy_"])


def sizes_of(name: str, args: Args, kwargs: Kwargs, on_device: OnDevice) -> Sizes:
    """Bytes that the waits of a torch function copy."""
    if name in _READERS:
        return [], args[0].element_size()
    if name in _ANSWERS:
        return [], 1
    if name in _MOVES:
        return [], moved_bytes(args, kwargs, is_upload=not on_device(args[0]), is_async=False)
    if name == "tolist":
        return [], args[0].nbytes
    if name == "copy_":
        source = args[1] if len(args) > 1 else kwargs.get("src", kwargs.get("other"))
        crossing = _crossing(on_device, (args[0], source), is_async=False)
        return [], args[0].nbytes if crossing is None else crossing[1]
    if name == "_foreach_copy_":
        return [each for _, each in _crossing_pairs(args, kwargs, on_device, is_async=False)], None
    if name in _DATA:
        return _sizes_of_data(name, args, kwargs, on_device)
    if name == "__getitem__":
        return list(index_sizes(args[1], on_device)), None
    if name == "__setitem__":
        return _sizes_of_write(args, on_device)
    if name in ("index_put", "index_put_"):
        return list(index_sizes(as_index(args[1] if len(args) > 1 else kwargs["indices"]), on_device)), None
    if name == "where":
        return host_scalar_sizes((*args, *kwargs.values()), on_device), None
    if name == "unravel_index":  # written in Python, of two lists
        return [], _LONG_BYTES * _num_elements(args[1] if len(args) > 1 else kwargs["shape"])
    return _sizes_of_reads(name, args, kwargs, on_device), None


def _sizes_of_reads(name: str, args: Args, kwargs: Kwargs, on_device: OnDevice) -> list[Size]:
    """Of the device scalars that stand for numbers, or that the operator reads."""
    found = scalar_sizes((args, tuple(kwargs.values())), on_device)
    if name in _LIMITS or takes_sizes(name):
        return found
    return found[len(found) - num_read_scalars(name, args, kwargs, on_device) :]


def crossing_bytes(numel: int, source: torch.dtype, target: torch.dtype, *, is_upload: bool, is_async: bool) -> int:
    """Bytes of a copy across that may change the type."""
    return numel * (source if is_upload == is_async else target).itemsize


def moved_bytes(args: Args, kwargs: Kwargs, *, is_upload: bool, is_async: bool) -> int:
    """Bytes of ``args[0]`` that cross when ``Tensor.to`` or one of its kin moves it."""
    values = (*args[1:], *kwargs.values())
    dtypes = (value if isinstance(value, torch.dtype) else value.dtype for value in values if _has_dtype(value))
    dtype = next(dtypes, args[0].dtype)
    return crossing_bytes(args[0].numel(), args[0].dtype, dtype, is_upload=is_upload, is_async=is_async)


def _has_dtype(value: Any) -> bool:
    return isinstance(value, (torch.dtype, Tensor))


def scalar_sizes(values: Any, on_device: OnDevice, *, only_scalars: bool = True) -> list[Size]:
    """Of each device scalar in nested sequences, or each element of device tensors, which are read one by one."""
    if isinstance(values, list | tuple):
        return [size for value in values for size in scalar_sizes(value, on_device, only_scalars=only_scalars)]
    if not on_device(values) or (only_scalars and values.dim()):
        return []
    return [values.element_size()] * values.numel()


def host_scalar_sizes(values: Iterable[Any], on_device: OnDevice) -> list[Size]:
    """Of each 0-d host tensor among some values."""
    return [
        value.element_size()
        for value in values
        if isinstance(value, Tensor) and not on_device(value) and value.dim() == 0
    ]


def index_sizes(index: Any, on_device: OnDevice) -> Iterable[Size]:
    """Of the scalars that an index of ``tensor[index]`` reads, then of what it uploads."""
    parts = list(index) if stands_for_tuple(index) else [index]
    limits = [limit for part in parts if isinstance(part, slice) for limit in (part.start, part.stop, part.step)]
    yield from scalar_sizes([part for part in (*parts, *limits) if not _is_mask(part)], on_device)
    yield from (part.dtype.itemsize for part in parts if getattr(part, "shape", None) == () and _is_array(part))
    for part in parts:
        if isinstance(part, Tensor):
            if not on_device(part) and part.dim() and part.numel() and not _is_mask(part):
                yield part.numel() * _LONG_BYTES
        elif hasattr(part, "__len__") and (num_elements := _num_elements(part)):
            yield num_elements * (1 if _are_flags(part) else _LONG_BYTES)


def _is_array(part: Any) -> bool:
    """Whether a part of an index is an array of numpy's; without dimensions it is uploaded, then read."""
    return not isinstance(part, Tensor) and hasattr(part, "__len__")


def _is_mask(part: Any) -> bool:
    return isinstance(part, Tensor) and part.dtype in MASK_DTYPES


def _num_elements(data: Any) -> int:
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return sum(map(_num_elements, data))
    size = getattr(data, "size", None)  # of numpy's arrays
    return size if isinstance(size, int) else data.numel() if isinstance(data, Tensor) else 1


def _are_flags(part: Any) -> bool:
    kind = getattr(part, "dtype", None)
    return str(kind) in ("bool", "uint8") if kind is not None else all(isinstance(item, bool) for item in part)


def written_bytes(tensor: Tensor, index: Any, value: Any, on_device: OnDevice) -> Size:
    """Of a value from across that is written to ``tensor[index]``."""
    found = index_of(index, on_device)
    if found.num_tensors:
        return int(value.numel() * tensor.element_size())
    return None if found.num_reads else int(tensor[index].nbytes)


def _sizes_of_write(args: Args, on_device: OnDevice) -> Sizes:
    tensor, index, value = args
    is_up = on_device(tensor)
    sizes = list(index_sizes(index, on_device))
    if not is_up:
        sizes = sizes[: index_of(index, on_device).num_reads]
    if isinstance(value, Tensor) and on_device(value) != is_up and (value.dim() or not is_up):
        return sizes, written_bytes(tensor, index, value, on_device)
    return [*sizes, tensor.element_size()], None


def _sizes_of_data(name: str, args: Args, kwargs: Kwargs, on_device: OnDevice) -> Sizes:
    given = args[1:] if name == "new_tensor" else args
    data = given[0] if given else kwargs.get("data", kwargs.get("obj"))
    options = [value for value in (*given[1:], *kwargs.values()) if isinstance(value, torch.dtype)]
    if isinstance(data, Tensor):
        dtype = options[0] if options else data.dtype
        return [], data.numel() * dtype.itemsize
    likes = [args[0].dtype] if name == "new_tensor" else []
    found = next(iter((*options, *likes)), None) or _dtype_of(data)
    return scalar_sizes(data, on_device, only_scalars=False), None if found is None else _num_elements(
        data
    ) * found.itemsize


def _dtype_of(data: Any) -> torch.dtype | None:
    """The type that ``torch.tensor`` gives nested sequences of numbers and tensors; None where nobody knows."""
    if isinstance(data, list | tuple):
        found = {_dtype_of(item) for item in data}
        if None in found or not found:
            return None if found else torch.get_default_dtype()
        return _promoted([dtype for dtype in found if dtype is not None])
    if isinstance(data, bool):
        return torch.bool
    if isinstance(data, int):
        return torch.int64
    if isinstance(data, float):
        return torch.get_default_dtype()
    dtype = getattr(data, "dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else getattr(torch, str(dtype), None)


def _promoted(dtypes: list[torch.dtype]) -> torch.dtype:
    first, *others = dtypes
    for other in others:
        first = torch.promote_types(first, other)
    return first


def answer_bytes(name: str, args: Args, kwargs: Kwargs, on_device: OnDevice) -> Size:
    """Of one wait inside an operator that reads what it was given, or one bool; None where another is read."""
    if name in _ANSWERS:
        return 1
    sizes = set(scalar_sizes((args, tuple(kwargs.values())), on_device))
    return sizes.pop() if name in _LIMITS and len(sizes) == 1 else None


def asynchronous_copies(name: str, args: Args, kwargs: Kwargs, on_device: OnDevice) -> Copies:
    """The copies of a torch function that was told not to wait for them."""
    if name not in MAY_BE_ASYNCHRONOUS or not is_asynchronous(args, kwargs):
        return []
    if name == "_foreach_copy_":
        return _crossing_pairs(args, kwargs, on_device, is_async=True)
    if name == "copy_":
        source = args[1] if len(args) > 1 else kwargs.get("src", kwargs.get("other"))
        found = _crossing(on_device, (args[0], source), is_async=True)
        return [] if found is None else [found]
    goes_up = _goes_up(name, args, kwargs, on_device)
    is_up = on_device(args[0])
    num_bytes = moved_bytes(args, kwargs, is_upload=not is_up, is_async=True)
    if goes_up is None or goes_up == is_up or not num_bytes:
        return []
    return [("upload" if goes_up else "download", num_bytes)]


def is_asynchronous(args: Args, kwargs: Kwargs) -> bool:
    """Whether a copy was told not to wait; the flag comes after a device, a type or both, or after the source."""
    if "non_blocking" in kwargs:
        return bool(kwargs["non_blocking"])
    flags = [value for value in args[1:] if isinstance(value, bool)]
    return bool(flags and flags[0])


def _goes_up(name: str, args: Args, kwargs: Kwargs, on_device: OnDevice) -> bool | None:
    """Whether a tensor is to be on the device; None where it stays where it is."""
    if name == "cuda":
        return True
    if name == "type":
        kinds = [str(value) for value in (*args[1:], *kwargs.values()) if isinstance(value, str)]
        return "cuda" in kinds[0] if kinds else None
    for place, value in enumerate((*args[1:], *kwargs.values())):
        if isinstance(value, Tensor):
            return on_device(value)
        if isinstance(value, str | torch.device):
            return torch.device(value).type == "cuda"
        if type(value) is int and not place:
            return True
    return None


def _crossing_pairs(args: Args, kwargs: Kwargs, on_device: OnDevice, *, is_async: bool) -> Copies:
    sources = args[1] if len(args) > 1 else kwargs["src"]
    pairs = zip(args[0], sources, strict=True)
    return [found for pair in pairs if (found := _crossing(on_device, pair, is_async=is_async)) is not None]


def _crossing(on_device: OnDevice, pair: tuple[Tensor, Any], *, is_async: bool) -> tuple[Direction, int] | None:
    """Of a copy from the second to the first."""
    target, source = pair
    if not isinstance(source, Tensor) or on_device(source) == on_device(target) or not target.numel():
        return None
    is_upload = on_device(target)
    num_bytes = crossing_bytes(target.numel(), source.dtype, target.dtype, is_upload=is_upload, is_async=is_async)
    return "upload" if is_upload else "download", num_bytes
