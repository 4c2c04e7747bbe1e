"""Tensors of classes with a dispatch of their own, as ``DTensor`` and quantized weights, that hold device tensors.

Their Python decides what happens to the tensors inside. So it runs with the device's mode on: what it does with those
is judged as anything else, and the wrapper's own call is not judged besides. Fake tensors hold no values and go their
own way.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor

from bagel_perf.harness.simulated.calls import CPU, Args, Func, Kwargs, holds_simulated, name_of
from bagel_perf.harness.simulated.patches import Patches
from bagel_perf.harness.simulated.tensor import hidden
from bagel_perf.harness.simulated.transfers import to_options
from bagel_perf.harness.simulated.watch import Watch, unwatched

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice

_MARK = "_is_on_simulated_device"
_DEFAULTS = (Tensor.__torch_function__.__func__, torch._C._disabled_torch_function_impl)  # type: ignore[attr-defined]
_MOVES = ("to", "cuda", "cpu")
_fake_mode: Any = torch._C._TorchDispatchModeKey.FAKE


@lru_cache(maxsize=4096)
def is_wrapper(kind: Any) -> bool:
    """Whether tensors of this class have a dispatch of their own."""
    return issubclass(kind, Tensor) and kind.__torch_dispatch__ is not Tensor.__torch_dispatch__


def holds_wrapper(values: Iterable[Any]) -> bool:
    """Whether such a tensor is among ``values``, or in a sequence among them."""
    for value in values:
        kind: Any = type(value)
        if is_wrapper(kind) or ((kind is list or kind is tuple) and holds_wrapper(value)):
            return True
    return False


def is_faking() -> bool:
    """Whether all that is made now is fake; asked where some dispatch mode is on."""
    return torch._C._get_dispatch_mode(_fake_mode) is not None


class Passing(Watch):
    """Lets wrappers dispatch with the device's mode on; what else runs meanwhile comes to the device as a call."""

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kinds = _wrappers_in(args, kwargs)
        with torch._C._EnableTorchFunction(), self._device.intercepting():
            for kind in kinds:
                result = kind.__torch_dispatch__(func, types, args, kwargs)
                if result is not NotImplemented:
                    return result
            return func(*args, **kwargs)


def run_wrapped(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """Runs a call with wrappers among its arguments."""
    kinds = _wrappers_in(args, kwargs)
    if any(issubclass(kind, FakeTensor | FunctionalTensor) for kind in kinds):
        with hidden():
            return func(*args, **kwargs)
    name = name_of(func)
    if name in _FACTS and len(kinds) == 1:
        return _fact(device, func, args[0])
    with Passing(device):
        for kind in kinds:
            if getattr(kind.__torch_function__, "__func__", kind.__torch_function__) not in _DEFAULTS:
                result = kind.__torch_function__(func, types, args, kwargs)
                if result is not NotImplemented:
                    return result
        if name in _MOVES:
            return _move(device, args[0], _options(name, args[1:], kwargs))
        own_python = device.composites.of(func)
        if own_python is not None:
            with unwatched(), device.intercepting():
                return own_python(*args, **kwargs)
        with hidden():
            return func(*args, **kwargs)


def _wrappers_in(args: Args, kwargs: Kwargs) -> list[Any]:
    """The classes of wrappers among the arguments, derived ones first, as torch asks them."""
    found: list[Any] = [type(value) for value in _flat((*args, *kwargs.values()))]
    kinds = dict.fromkeys(filter(is_wrapper, found))
    return sorted(kinds, key=lambda kind: -sum(issubclass(kind, other) for other in kinds))


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if type(value) in (list, tuple):
            yield from _flat(value)
        else:
            yield value


def _is_on_device(tensor: Tensor) -> bool:
    return bool(tensor.__dict__.get(_MARK))


_FACTS = ("get device", "get is_cuda", "get is_cpu", "get_device")


def _fact(device: SimulatedDevice, func: Func, tensor: Tensor) -> Any:
    if not _is_on_device(tensor):
        with hidden():
            return func(tensor)
    return {"get device": device.device, "get is_cuda": True, "get is_cpu": False}.get(name_of(func), 0)


def _options(name: str, positional: Args, named: Kwargs) -> dict[str, Any]:
    """The arguments of ``to``, ``cuda`` and ``cpu`` by name."""
    if name == "to":
        return to_options(positional, named)
    options = {**dict(zip(("device", "non_blocking"), positional, strict=False)), **named}
    return {**options, "device": CPU if name == "cpu" else options.get("device") or "cuda"}


def _move(device: SimulatedDevice, tensor: Tensor, options: dict[str, Any]) -> Any:
    """Below Python a wrapper is the host's, so torch would take a move across devices for none."""
    target = options.pop("device", None)
    goes_to_device = _is_on_device(tensor) if target is None else device.owns(target)
    options.pop("copy", None)
    with hidden():
        if goes_to_device == _is_on_device(tensor) and (
            target is None or goes_to_device or torch.device(target) == CPU
        ):
            return torch.Tensor.to(tensor, **options) if options else tensor
        options["device"] = device.device if goes_to_device else torch.device(target or CPU)
        return torch._C._dispatch_call_boxed(torch.ops.aten._to_copy.default._handle, tensor, **options)


def patch_wrappers(patches: Patches, device: SimulatedDevice) -> None:
    """Replaces what makes a wrapper: torch without a GPU cannot run gradients of a tensor that says "cuda" in C++."""
    native: Any = Tensor._make_wrapper_subclass

    def make(cls: Any, size: Any, *args: Any, **kwargs: Any) -> Any:
        target = kwargs.get("device")
        if target is None or kwargs.get("dispatch_device") or not device.owns(target) or is_faking():
            return native(cls, size, *args, **kwargs)
        made = native(cls, size, *args, **{**kwargs, "device": CPU})
        setattr(made, _MARK, True)
        return made

    patches.add(Tensor, "_make_wrapper_subclass", staticmethod(make))


def is_native(args: Args, kwargs: Kwargs) -> bool:
    """Whether a call makes or takes fake tensors alone."""
    return is_faking() and not holds_simulated((*args, *kwargs.values()))
