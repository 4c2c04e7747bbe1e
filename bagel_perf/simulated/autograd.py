"""Backward passes on the simulated device: their operators are watched, their Python runs on the device.

Gradients are made by torch's engine, which knows nothing of the device. ``BackwardWatch`` marks them, so hooks and
custom functions get device tensors; copies across devices mark the border.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function

from bagel_perf.rules import torch_inner_names, torch_names
from bagel_perf.simulated.patches import NotSimulated, Patches
from bagel_perf.simulated.tensor import SimulatedTensor, hidden, wrap

if TYPE_CHECKING:
    from bagel_perf.simulated.device import SimulatedDevice

_is_enabled: Any = torch_names.IS_TORCH_FUNCTION_ENABLED.find()
_Enabled: Any = torch_names.ENABLE_TORCH_FUNCTION.find()

_FAKE: tuple[Any, ...] = (torch_inner_names.FAKE_TENSOR.find(), torch_inner_names.FUNCTIONAL_TENSOR.find())


class _Engine:
    """Torch's engine, watched."""

    def __init__(self, device: SimulatedDevice, engine: Any) -> None:
        self._device = device
        self._engine = engine

    def run_backward(self, tensors: Any, *args: Any, **kwargs: Any) -> Any:
        device = self._device
        if any(isinstance(tensor, _FAKE) and device.owns(tensor.device) for tensor in tensors):
            raise NotSimulated("a backward pass of fake tensors on cuda", "trace the module and its inputs on the host")
        with device.intercepting(), device.watch_backward():
            gradients = self._engine.run_backward(tensors, *args, **kwargs)
        inputs = kwargs.get("inputs") or (args[3] if len(args) > 3 else ())
        if not gradients or len(gradients) != len(inputs):
            return gradients
        pairs = zip(gradients, inputs, strict=True)
        return tuple(wrap(one) if type(given) is SimulatedTensor else one for one, given in pairs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class _Crossing(Function):
    """A copy across devices: its gradient is copied back, which waits."""

    @staticmethod
    def forward(ctx: Any, copy: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
        ctx.back = back
        return copy(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, None, ctx.back(gradients[0])


def cross(copy: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
    """``copy(tensor)``, which is on the other device; ``back`` brings a gradient to the device of ``tensor``."""
    crossed: Tensor = _Crossing.apply(copy, back, tensor)  # type: ignore[no-untyped-call]
    return crossed


def _apply_marking(native: Any) -> Any:
    """``Function.apply``, whose outputs torch may have replaced by views of device tensors among the inputs."""

    def marked(cls: Any, *args: Any, **kwargs: Any) -> Any:
        results = native.__get__(None, cls)(*args, **kwargs)  # a classmethod, of Python or of C
        inputs = [value for value in args if type(value) is SimulatedTensor]
        if not inputs:
            return results
        with hidden():
            storages = {value.untyped_storage()._cdata for value in inputs if value.layout is torch.strided}
            for result in results if isinstance(results, tuple) else (results,):
                if type(result) is Tensor and result.untyped_storage()._cdata in storages:
                    wrap(result)
        return results

    return classmethod(marked)


def _save(ctx: Any, *tensors: Any) -> None:
    """``FunctionCtx.save_for_backward``; remembers which are on the device, as torch gives back other objects."""
    ctx.to_save = tensors
    ctx._is_simulated = tuple(type(value) is SimulatedTensor for value in tensors)


def _saved_marking(native: Any) -> Any:
    def saved(ctx: Any) -> tuple[Any, ...]:
        tensors: tuple[Any, ...] = native.__get__(ctx)
        marks = getattr(ctx, "_is_simulated", ())
        return tuple(wrap(one) if mark else one for one, mark in zip(tensors, marks, strict=True)) if marks else tensors

    return property(saved)


def _hooks_marking(device: SimulatedDevice, init: Any) -> Any:
    """``saved_tensors_hooks.__init__``: what device calls save is packed as a device tensor."""

    def marked(self: Any, pack: Callable[[Tensor], Any], unpack: Callable[[Any], Tensor]) -> None:
        def pack_marked(tensor: Tensor) -> Any:
            if _is_enabled():
                return pack(tensor)
            with _Enabled(), device.intercepting():  # inside a device's call
                return pack(wrap(tensor) if tensor.dim() else tensor)

        init(self, pack_marked, unpack)

    return marked


def patch_autograd(patches: Patches, device: SimulatedDevice) -> None:
    """What has to be replaced in ``torch.autograd`` while ``device`` is open."""
    patches.replace(torch_names.ENGINE, lambda engine: _Engine(device, engine))
    patches.replace(torch_names.APPLY, _apply_marking)
    patches.replace(torch_names.SAVE_FOR_BACKWARD, lambda native: _save)
    patches.replace(torch_names.SAVED_TENSORS, _saved_marking)
    patches.replace(torch_names.SAVED_TENSORS_HOOKS, lambda init: _hooks_marking(device, init))
