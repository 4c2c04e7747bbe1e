"""Decides which waits a torch function makes by itself, as it is called from Python, before any operator runs.

Torch's argument parser and its indexing do some of the waiting: they read a device scalar that stands for a number,
upload a list that stands for an index. One set of rules serves the simulated device, which counts by them, and the
classifier on a GPU, which names by them what CUDA's callbacks count.

Asynchronous copies that the driver stages are decided here as well. Measured on an NVIDIA H200 that was busy for 20 ms
(reports/staged-copies): a download into memory that is pageable, or not dense, holds the host inside
``cudaMemcpyAsync`` until the queue is empty, whatever its size; an upload from such memory does at 16 MiB, and does not
up to 1 MiB. No such copy makes a synchronizing call, so no witness tells of it: its length does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from bagel_perf.records.sites import HELD, Kind
from bagel_perf.rules import torch_inner_names
from bagel_perf.rules.operators import MASK_DTYPES, Args, Kwargs, OnDevice
from bagel_perf.rules.table import RULES

UPLOAD = "asynchronous copy of pageable memory"
DOWNLOAD = HELD

IsPinned = Callable[[Tensor], bool]


def is_staged(host: Tensor, is_pinned: IsPinned) -> bool:
    """Whether a copy from or to a host tensor goes through memory of the driver's."""
    return not is_pinned(host) or not is_dense(host)


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements lie side by side, in whatever order."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def staged_copy(name: str, args: Args, kwargs: Kwargs, on_device: OnDevice, is_pinned: IsPinned) -> str | None:
    """What a torch function copies that is staged, as a hazard is named; None where nothing is."""
    request = _asynchronous(name, args, kwargs)
    if request is None:
        return None
    source, target = request
    if isinstance(target, Tensor):
        if on_device(source) == on_device(target):
            return None
        host = target if on_device(source) else source
    elif on_device(source) or _is_host(target):  # ``.to("cpu")`` allocates pinned memory for itself
        return None
    else:
        host = source
    if not source.numel() or not is_staged(host, is_pinned):
        return None
    return DOWNLOAD if on_device(source) else UPLOAD


def _asynchronous(name: str, args: Args, kwargs: Kwargs) -> tuple[Tensor, Any] | None:
    """Source and target (a tensor, or where ``to`` and ``cuda`` were told to copy to) of an asynchronous copy."""
    if name == "copy_":
        source = args[1] if len(args) > 1 else kwargs.get("src", kwargs.get("other"))
        is_async = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        return (source, args[0]) if is_async and isinstance(source, Tensor) else None
    if name not in ("to", "cuda", "_to_copy") or not _is_async(name, args, kwargs):
        return None
    places = [value for value in (*args[1:], *kwargs.values()) if isinstance(value, str | torch.device | Tensor)]
    return args[0], places[0] if places else ("cuda" if name == "cuda" else "cpu")


def _is_async(name: str, args: Args, kwargs: Kwargs) -> bool:
    """The flag comes after a device, or after a device and a type."""
    if "non_blocking" in kwargs:
        return bool(kwargs["non_blocking"])
    flags = [value for value in args[1:] if isinstance(value, bool)]
    return bool(flags and flags[0])


def _is_host(place: Any) -> bool:
    return not isinstance(place, Tensor) and torch.device(place).type != "cuda"


Waits = tuple[Kind, ...]
"""Kinds of the waits of one call, in their order."""

_is_batched: Any = torch_inner_names.IS_BATCHED.find()
_SIZED = """
new_ zeros ones empty full rand arange linspace view reshape expand repeat narrow split chunk tile unflatten resize
as_strided index_select select
"""
_READS_SIZES = tuple(_SIZED.split())
_READS_VALUES = ("full", "new_full", "full_like")


def takes_sizes(name: str) -> bool:
    """Whether a device scalar that a function of this name reads is a size."""
    return name.startswith(_READS_SIZES) and name not in _READS_VALUES


def kind_of_reads(name: str) -> Kind:
    """The kind of a device scalar that a function of this name reads: a size, or a value."""
    return "tensor_as_size" if takes_sizes(name) else "scalar_read"


@dataclass(slots=True)
class Index:
    """What an index holds: ``reads`` device scalars, ``uploads`` lists and host tensors, ``masks`` on the device."""

    num_integers: int = 0
    num_tensors: int = 0
    num_masks: int = 0
    num_uploads: int = 0
    num_reads: int = 0
    spreads: bool = False

    def leading(self) -> Waits:
        """The waits for what the index is made of, before anything is read or written by it."""
        reads: Waits = ("scalar_read",)
        uploads: Waits = ("pageable_upload",)
        return reads * self.num_reads + uploads * self.num_uploads


def index_of(index: Any, on_device: OnDevice) -> Index:
    """Takes an index of ``tensor[index]`` apart."""
    found = Index()
    for part in index if stands_for_tuple(index) else (index,):
        if isinstance(part, Tensor):
            _add_tensor(found, part, on_device)
        elif part is None or part is Ellipsis:
            found.spreads = True
        elif isinstance(part, slice):
            found.spreads = True
            found.num_reads += sum(map(on_device, (part.start, part.stop, part.step)))
        elif isinstance(part, bool):
            found.num_tensors += 1
        elif hasattr(part, "__index__") and not hasattr(part, "__len__"):  # an array of numpy's has both
            found.num_integers += 1
        else:
            _add_sequence(found, part, on_device)
    return found


def _add_tensor(found: Index, part: Tensor, on_device: OnDevice) -> None:
    is_mask = part.dtype in MASK_DTYPES
    if part.dim() == 0 and not is_mask and not _is_batched(part):  # under vmap it stands for a vector
        found.num_integers += 1
        found.num_reads += on_device(part)
        return
    found.num_tensors += 1
    if on_device(part):
        found.num_masks += is_mask
    elif not is_mask and part.numel():  # a host mask becomes row numbers in pinned memory: these do not wait
        found.num_uploads += 1


_MAX_TUPLE = 32


def stands_for_tuple(index: Any) -> bool:
    """Whether torch takes an index for several: a tuple, or a short list that holds more than numbers.

    Follows treatSequenceAsTuple of torch/csrc/autograd/python_variable_indexing.cpp.
    """
    if isinstance(index, tuple):
        return True
    if not isinstance(index, Sequence) or len(index) >= _MAX_TUPLE:
        return False
    return any(item is None or item is Ellipsis or isinstance(item, (Tensor, slice, Sequence)) for item in index)


def _add_sequence(found: Index, part: Any, on_device: OnDevice) -> None:
    """A list, or an array of numpy's: it becomes a tensor on the device; one without dimensions is read from there."""
    kind = getattr(part, "dtype", None)
    items = list(part) if kind is None else part.ravel().tolist()
    found.num_uploads += bool(items)
    if kind is not None and not part.shape:
        found.num_integers += 1
        found.num_reads += 1
        return
    is_mask = all(isinstance(item, bool) for item in items) or str(kind) == "uint8"
    found.num_tensors += 1
    found.num_masks += bool(items) and is_mask
    found.num_reads += sum(map(on_device, items))


def read_by_index(tensor: Tensor, index: Any, on_device: OnDevice) -> Waits:
    """The waits of ``tensor[index]``; of a host tensor those for scalars in the index."""
    found = index_of(index, on_device)
    if not on_device(tensor):
        reads: Waits = ("scalar_read",)
        return reads * found.num_reads
    masks: Waits = ("mask_gather",)
    return found.leading() + masks * found.num_masks


def write_by_index(tensor: Tensor, index: Any, value: Any, on_device: OnDevice) -> Waits:
    """The waits of ``tensor[index] = value`` into a device tensor, without those of a copy from the host.

    Follows torch/csrc/autograd/python_variable_indexing.cpp: on CUDA a number that is assigned becomes a 0-d host
    tensor. It is copied, which waits, where the target is a single element; it is uploaded where integer indices choose
    the targets; otherwise, also through one mask, it is filled in without a wait.
    """
    found = index_of(index, on_device)
    number: Waits = ("integer_index_write",)
    masks: Waits = ("mask_scatter",)
    is_number = not isinstance(value, Tensor) or (not on_device(value) and value.dim() == 0)
    is_fill = is_number and found.num_tensors == 1
    if not is_number:
        waits_for_number = False
    elif found.num_tensors:
        waits_for_number = not found.num_tensors == found.num_masks == 1
    else:
        waits_for_number = not found.spreads and found.num_integers == tensor.dim()
    return found.leading() + number * waits_for_number + masks * (0 if is_fill else found.num_masks)


def as_index(indices: Sequence[Any]) -> tuple[Any, ...]:
    """A list of indices of an operator as ``tensor[...]`` takes them."""
    return tuple(slice(None) if index is None else index for index in indices)


def num_scalars(data: Any, on_device: OnDevice) -> int:
    """Device scalars in nested sequences, each of which is read by itself."""
    if isinstance(data, Sequence) and not isinstance(data, str | bytes | range):
        return sum(num_scalars(item, on_device) for item in data)
    return data.numel() if on_device(data) else 0


_NUMBERS = (int, float, bool, complex)


@lru_cache(maxsize=2048)
def _slots_of(name: str) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """Of each overload of a function the names of its arguments, and what each takes: tensor, tensors or other."""
    packet = _packet_of(name)
    if packet is None:
        return ((("self",), ("tensor",)),)
    found = []
    for overload in packet.overloads():
        arguments = getattr(packet, overload)._schema.arguments
        names = tuple(argument.name for argument in arguments)
        found.append((names, tuple(_takes(str(argument.type)) for argument in arguments)))
    return tuple(dict.fromkeys(found))


def _packet_of(name: str) -> Any:
    plain = name.strip("_") if name.startswith("__") else name
    return getattr(torch.ops.aten, plain, None)


def _takes(kind: str) -> str:
    if kind in ("Tensor", "Optional[Tensor]"):
        return "tensor"
    return "tensors" if "Tensor" in kind else "other"


def has_place_for(name: str, args: Args, kwargs: Kwargs, on_device: OnDevice, *, of_unknown: bool = False) -> bool:
    """Whether some overload of a function takes each device tensor as a tensor, so that none is read as a number.

    ``of_unknown`` is what to say of a function that is no operator.
    """
    if of_unknown and _packet_of(name) is None:
        return True
    return any(_fits(names, takes, args, kwargs, on_device) for names, takes in _slots_of(name))


def _fits(names: tuple[str, ...], takes: tuple[str, ...], args: Args, kwargs: Kwargs, on_device: OnDevice) -> bool:
    if len(args) > len(takes):
        return not any(_holds(value, on_device) for value in (*args[1:], *kwargs.values()))
    named = ((takes[names.index(name)] if name in names else "other", value) for name, value in kwargs.items())
    for slot, value in chain(zip(takes, args, strict=False), named):
        if isinstance(value, list | tuple):
            if slot != "tensors" and _holds(value, on_device):
                return False
        elif on_device(value):
            if slot != "tensor":
                return False
        elif slot == "tensor" and type(value) in _NUMBERS:
            return False
    return True


def _holds(value: Any, on_device: OnDevice) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds(item, on_device) for item in value)
    return on_device(value)


def num_read_scalars(name: str, args: Args, kwargs: Kwargs, on_device: OnDevice) -> int:
    """Device scalars that torch reads since they stand where a function takes a number; 0 where it takes them all."""
    if has_place_for(name, args, kwargs, on_device):
        return 0
    takes_first = any(takes[:1] == ("tensor",) for _, takes in _slots_of(name))
    return _num_scalars((*args[takes_first:], *kwargs.values()), on_device)


def _num_scalars(value: Any, on_device: OnDevice) -> int:
    if isinstance(value, list | tuple):
        return sum(_num_scalars(item, on_device) for item in value)
    return int(on_device(value) and value.dim() == 0)


_READS = """
item __bool__ __int__ __float__ __index__ __complex__ is_nonzero __format__ __contains__ assert_close __repr__ full
new_full step
"""
_LIKE: dict[str, Kind] = {
    **dict.fromkeys(_READS.split(), "scalar_read"),
    **dict.fromkeys(("unique", "one_hot", "to_sparse", "unique_consecutive", "repeat_interleave"), "nonzero"),
    "combinations": "mask_gather",
    "unravel_index": "pageable_upload",
    "tolist": "d2h_copy",
}
"""Functions whose operators have other names; only the kind of what waits inside."""


@lru_cache(maxsize=2048)
def kind_of_operator(name: str) -> Kind | None:
    """The kind of the waits inside a torch function, by the rules for operators of its name; None without a rule."""
    found = _LIKE.get(name)
    if found is not None:
        return found
    bases = {name, name.removesuffix("_") if not name.startswith("__") else name}
    kinds = [rule.kind for known, rule in RULES.items() if known.partition(".")[0] in bases]
    return kinds[0] if kinds else None


@lru_cache(maxsize=4096)
def accepts_host_scalars(name: str) -> bool:
    """Whether operators of this name work element by element, and so take 0-d host tensors beside device tensors."""
    if name in ("narrow", "select", "index_fill", "index_fill_", "fill_", "isclose") or name.startswith("_fused_"):
        return True  # fused optimizers read a learning rate where it is (ATen/native/cuda/FusedAdamKernel.cu)
    packet = getattr(torch.ops.aten, name.strip("_"), None) or getattr(torch.ops.aten, name, None)
    if packet is None:
        return False
    return any(torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads())
