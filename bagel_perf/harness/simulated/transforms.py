"""Function transforms (``torch.vmap``, ``torch.func``): what stands for a device tensor inside is one too."""

from __future__ import annotations

from typing import Any

from torch._functorch import eager_transforms, vmap

from bagel_perf.harness.simulated.patches import Patches
from bagel_perf.harness.simulated.tensor import SimulatedTensor, hidden, wrap

_NAMES = {
    vmap: ("_add_batch_dim", "_remove_batch_dim", "_maybe_remove_batch_dim"),
    eager_transforms: (
        "_wrap_for_grad",
        "_unwrap_for_grad",
        "_wrap_tensor_for_grad",
        "_unwrap_tensor_for_grad",
        "_maybe_wrap_functional_tensor",
        "_maybe_unwrap_functional_tensor",
    ),
}


def patch_transforms(patches: Patches) -> None:
    """Torch wraps and unwraps the tensors of a transform in C++, which gives host tensors back."""
    for module, names in _NAMES.items():
        for name in names:
            if hasattr(module, name):
                patches.add(module, name, _keeping_device(getattr(module, name)))


def _keeping_device(native: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        if SimulatedTensor not in map(type, args):
            return native(*args, **kwargs)
        with hidden():
            return wrap(native(*args, **kwargs))

    return call
