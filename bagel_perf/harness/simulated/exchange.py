"""DLPack: tensors of the device pass between torch's own functions; others would take their memory for a GPU's."""

from __future__ import annotations

from typing import Any

import torch

from bagel_perf.harness import torch_inner_names
from bagel_perf.harness.simulated.patches import Patches
from bagel_perf.harness.simulated.tensor import SimulatedTensor


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
