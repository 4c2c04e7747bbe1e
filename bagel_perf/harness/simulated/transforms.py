"""Function transforms (``torch.vmap``, ``torch.func``): what stands for a device tensor inside is one too."""

from __future__ import annotations

from typing import Any

from bagel_perf.harness import torch_names
from bagel_perf.harness.simulated.patches import Patches
from bagel_perf.harness.simulated.tensor import SimulatedTensor, hidden, wrap


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
