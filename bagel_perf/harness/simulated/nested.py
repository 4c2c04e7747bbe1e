"""Nested tensors in their older, strided form: of few calls it was measured whether they wait, the others are named."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bagel_perf.harness import torch_names
from bagel_perf.harness.simulated.calls import Args, Func, Handler, Kwargs, holds_simulated, name_of
from bagel_perf.harness.simulated.patches import Patches
from bagel_perf.harness.simulated.refusals import NotSimulated
from bagel_perf.harness.simulated.tensor import hidden, is_simulated, leaves, wrap

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice

_QUIET = ("unbind", "dim", "size", "is_contiguous", "detach", "requires_grad_", "__iter__", "__len__", "__hash__")


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


def judged(handler: Handler) -> Handler:
    """Runs a call with nested tensors among its arguments, which ``handler`` would run of others."""

    def run(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        name = name_of(func)
        is_measured = name == "to_padded_tensor" and _was_measured(args[0])
        if not is_measured and name not in _QUIET:
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
