"""Types such as ``torch.cuda.FloatTensor``: they make tensors, name types, and have instances."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bagel_perf.harness import torch_names
from bagel_perf.harness.simulated.patches import Patches
from bagel_perf.harness.simulated.refusals import refused_class
from bagel_perf.harness.simulated.tensor import DEVICE, SimulatedTensor

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
