"""What stands around ordinary tensors: autocast, nested and sparse tensors, transforms, optimizers, old types, DLPack.

Autocast for "cuda" is the CPU's autocast with the same dtype. The CPU's lists differ from CUDA's in some operators
(layer_norm, softmax and pow give fp32 on CUDA alone): dtypes of results may differ, waits do not depend on them. While
it is on, the host's operators are cast as well.

Of nested tensors in their older, strided form, and of sparse ones, few calls were measured; the others are named as
unjudged. DLPack passes tensors of the device between torch's own functions alone: others would take their memory for a
GPU's.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bagel_perf.rules import torch_inner_names, torch_names
from bagel_perf.simulated.calls import Args, Func, Handler, Kwargs, holds_simulated, is_known_of_strided, name_of
from bagel_perf.simulated.patches import NotSimulated, Patches, refused_class
from bagel_perf.simulated.tensor import DEVICE, SimulatedTensor, hidden, is_simulated, leaves, wrap

if TYPE_CHECKING:
    from bagel_perf.simulated.device import SimulatedDevice

_NOTE = "torch.autocast ran with the CPU's lists of operators"


def patch_autocast(patches: Patches, device: SimulatedDevice) -> None:
    """What is set for "cuda" is set for "cpu" as well."""
    enable: Any = torch.set_autocast_enabled
    set_dtype: Any = torch.set_autocast_dtype

    def enable_both(*args: Any) -> None:
        enable(*args)
        if len(args) == 1 or args[0] == "cuda":  # one argument: the older form, for CUDA
            enable("cpu", args[-1])
            if args[-1]:
                device.remarks(_NOTE)

    def set_both(device_type: str, dtype: torch.dtype) -> None:
        set_dtype(device_type, dtype)
        if device_type == "cuda":
            set_dtype("cpu", dtype)

    patches.add(torch, "set_autocast_enabled", enable_both)
    patches.add(torch, "set_autocast_dtype", set_both)
    patches.add(torch, "set_autocast_gpu_dtype", lambda dtype: set_both("cuda", dtype), only_present=True)


_QUIET_OF_NESTED = (
    "unbind",
    "dim",
    "size",
    "is_contiguous",
    "detach",
    "requires_grad_",
    "__iter__",
    "__len__",
    "__hash__",
)


def patch_nested(patches: Patches, device: SimulatedDevice) -> None:
    """Replaces what makes nested tensors."""
    for name in ("nested_tensor", "as_nested_tensor"):
        patches.add(torch.nested, name, _making(device, getattr(torch.nested, name)))


def _making(device: SimulatedDevice, native: Any) -> Any:
    @functools.wraps(native)
    def make(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        if device.owns(kwargs.get("device", torch_names.default_device())):
            name = f"torch.nested.{native.__name__}(device=...)"
            raise NotSimulated(name, "make it of tensors that are there already")
        made = native(tensors, *args, **kwargs)
        if type(made) is Tensor and holds_simulated((tensors,)):
            device.has_nested = True
            return wrap(made)
        return made

    return make


def holds_nested(values: Iterable[Any]) -> bool:
    """Whether a nested tensor of the device is among ``values``, or in a sequence among them."""
    with hidden():
        return any(is_simulated(value) and value.is_nested for value in leaves(values))


def judging_nested(handler: Handler) -> Handler:
    """Runs a call with nested tensors among its arguments, which ``handler`` would run of others."""

    def run(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        name = name_of(func)
        is_measured = name == "to_padded_tensor" and _was_measured(args[0])
        if not is_measured and name not in _QUIET_OF_NESTED:
            if not name.startswith("get "):
                device.cannot_judge(f"{name} of a nested tensor")
            return handler(device, func, types, args, kwargs)
        if is_measured:
            device.waits("pageable_upload")
        with hidden():
            return wrap(func(*args, **kwargs))

    return run


def _was_measured(tensor: Tensor) -> bool:
    """Offsets and sizes of vectors are uploaded in one piece (NestedTensorTransformerFunctions.cpp)."""
    with hidden():
        return tensor.dim() == 2 and tensor.dtype is torch.float32


_FACTS = """
dim ndimension size numel nelement is_contiguous is_floating_point is_complex element_size __len__ __hash__ detach
requires_grad_
"""
_QUIET_OF_SPARSE = frozenset(_FACTS.split())
_PRODUCTS = ("matmul", "__matmul__", "mm")


def holds_sparse(values: Iterable[Any]) -> bool:
    """Whether a tensor of the device that is not strided is among ``values``, or in a sequence among them."""
    with hidden():
        return any(is_simulated(value) and value.layout is not torch.strided for value in leaves(values))


def judging_sparse(handler: Handler) -> Handler:
    """The handler, naming what it would take for a call that does not wait; others look into the call anyway."""

    def run(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        name = name_of(func)
        is_measured = name in _QUIET_OF_SPARSE or (name in _PRODUCTS and not holds_sparse(args[1:]))
        if is_known_of_strided(name) and not is_measured:
            device.cannot_judge(f"{name} of a sparse tensor")
        return handler(device, func, types, args, kwargs)

    return run


def patch_transforms(patches: Patches) -> None:
    """Torch wraps and unwraps the tensors of a transform in C++, which gives host tensors back."""
    for name in torch_names.TRANSFORMS:
        patches.replace(name, _keeping_device)


def _keeping_device(native: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        if SimulatedTensor not in map(type, args):
            return native(*args, **kwargs)
        with hidden():
            return wrap(native(*args, **kwargs))

    return call


Groups = dict[tuple[torch.device | None, torch.dtype | None], tuple[list[list[Any]], list[int]]]


def _grouping(group_cpu: Any) -> Any:
    """Torch's own grouping, which takes device tensors for the CPU tensors they are."""

    def group(columns: list[list[Any]], with_indices: bool = False) -> Groups:
        if SimulatedTensor not in map(type, columns[0]):
            grouped: Groups = group_cpu(columns, with_indices)
            return grouped
        groups: Groups = {}
        with hidden():
            for index, first in enumerate(columns[0]):
                lists, indices = groups.setdefault(_key(first), ([[] for _ in columns], []))
                for members, column in zip(lists, columns, strict=True):
                    if column:  # a list that an optimizer has no use for is empty
                        members.append(column[index])
                if with_indices:
                    indices.append(index)
        return groups

    return group


def _key(tensor: Any) -> tuple[torch.device | None, torch.dtype | None]:
    if tensor is None:
        return None, None
    return DEVICE if type(tensor) is SimulatedTensor else tensor.device, tensor.dtype


def patch_optimizers(patches: Patches) -> None:
    """Device tensors may be treated together, as CUDA's are."""
    patches.replace(torch_names.GROUP_TENSORS, _grouping)
    for name in torch_names.FOREACH_TYPES:
        patches.extend(name, SimulatedTensor)


_DTYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Byte": torch.uint8,
    "Char": torch.int8,
    "Short": torch.int16,
    "Int": torch.int32,
    "Long": torch.int64,
    "Bool": torch.bool,
}


class _TensorType(type):
    """The type of the legacy types."""

    dtype: torch.dtype

    def __instancecheck__(cls, instance: Any) -> bool:
        return type(instance) is SimulatedTensor and instance.dtype is cls.dtype

    def __call__(cls, *args: Any) -> Tensor:
        """Of sizes uninitialized, of data a copy of it."""
        if len(args) == 1 and not isinstance(args[0], (int, torch.Size)):
            return torch.tensor(args[0], dtype=cls.dtype, device=DEVICE)
        return torch.empty(*args, dtype=cls.dtype, device=DEVICE)


def _set_default_tensor_type(native: Any) -> Any:
    def set_type(wanted: Any) -> None:
        name = wanted if isinstance(wanted, str) else f"{wanted.__module__}.{wanted.__name__}"
        if not name.startswith("torch.cuda."):
            native(wanted)
            return
        torch.set_default_dtype(_DTYPES[name.removeprefix("torch.cuda.").removesuffix("Tensor")])
        torch.set_default_device("cuda")

    return set_type


def patch_legacy_types(patches: Patches) -> None:
    """Replaces the tensor types of ``torch.cuda``; its storage types are refused."""
    for name, dtype in _DTYPES.items():
        made = _TensorType(f"{name}Tensor", (), {"dtype": dtype, "__module__": "torch.cuda"})
        patches.add(torch.cuda, f"{name}Tensor", made, only_present=True)
        storage = refused_class(f"torch.cuda.{name}Storage", "use torch.UntypedStorage or a tensor")
        patches.add(torch.cuda, f"{name}Storage", storage, only_present=True)
    patches.replace(torch_names.SET_DEFAULT_TENSOR_TYPE, _set_default_tensor_type)


class _Capsule:
    """Stands for the capsule of a device tensor."""

    def __init__(self, tensor: SimulatedTensor) -> None:
        self.tensor = tensor


def patch_exchange(patches: Patches) -> None:
    """Replaces torch's functions that make and take DLPack capsules."""
    taken, made = _from(torch.utils.dlpack.from_dlpack), _to(torch_inner_names.TO_DLPACK.find())
    for module in (torch, torch.utils.dlpack):
        patches.add(module, "from_dlpack", taken)
    patches.replace(torch_inner_names.TO_DLPACK, lambda native: made)
    for module in (torch, torch.utils.dlpack):
        patches.add(module, "to_dlpack", made, only_present=True)


def _from(native: Any) -> Any:
    def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Any:
        source = ext_tensor.tensor if isinstance(ext_tensor, _Capsule) else ext_tensor
        if type(source) is not SimulatedTensor:
            options = {"device": device, "copy": copy} if device is not None or copy is not None else {}
            return native(ext_tensor, **options)
        shared = source.detach()  # the same memory, no wait
        moved = shared if device is None else shared.to(device)
        return moved.clone() if copy and moved is shared else moved

    return from_dlpack


def _to(native: Any) -> Any:
    def to_dlpack(tensor: Any) -> Any:
        return _Capsule(tensor) if type(tensor) is SimulatedTensor else native(tensor)

    return to_dlpack
