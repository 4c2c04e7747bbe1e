"""Tensors of classes with a dispatch of their own, as ``DTensor`` and quantized weights, that hold device tensors.

Their Python decides what happens to the tensors inside. So it runs with the device's mode on: what it does with those
is judged as anything else, and the wrapper's own call is not judged besides. Fake tensors hold no values and go their
own way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bagel_perf.rules import torch_inner_names, torch_names
from bagel_perf.simulated.calls import CPU, Args, Func, Kwargs, holds_simulated, name_of
from bagel_perf.simulated.patches import NotSimulated, Patches
from bagel_perf.simulated.tensor import SimulatedTensor, hidden, wrap
from bagel_perf.simulated.transfers import to_options
from bagel_perf.simulated.watch import Watch, unwatched

if TYPE_CHECKING:
    from bagel_perf.simulated.device import SimulatedDevice

_MARK = "_is_on_simulated_device"
_LOCAL = "_local_tensor"
"""Where ``DTensor`` holds its part."""
_SUBCLASS = "a subclass of Tensor would not be on the simulated device; hold the tensor in a wrapper subclass"
_DEFAULTS = (Tensor.__torch_function__.__func__, torch_names.DISABLED_TORCH_FUNCTION.find())  # type: ignore[attr-defined]
_MOVES = ("to", "cuda", "cpu")
_FAKE: tuple[Any, ...] = (torch_inner_names.FAKE_TENSOR.find(), torch_inner_names.FUNCTIONAL_TENSOR.find())
_fake_mode: Any = torch_inner_names.FAKE_MODE.find()
_mode_of: Any = torch_inner_names.DISPATCH_MODE_OF.find()
_num_modes: Any = torch_names.NUM_DISPATCH_MODES.find()
_mode_at: Any = torch_names.DISPATCH_MODE_AT.find()
_enabled: Any = torch_names.ENABLE_TORCH_FUNCTION.find()
_to_copy: Any = torch_inner_names.TO_COPY.find()
_call: Any = torch_inner_names.CALL_OPERATOR.find()


def _is_wrapper(kind: Any) -> bool:
    """Whether tensors of this class have a dispatch of their own."""
    return issubclass(kind, Tensor) and kind.__torch_dispatch__ is not Tensor.__torch_dispatch__


is_wrapper: Callable[[Any], bool] = lru_cache(maxsize=4096)(_is_wrapper)


def holds_wrapper(values: Iterable[Any]) -> bool:
    """Whether such a tensor is among ``values``, or in a sequence among them."""
    for value in values:
        kind: Any = type(value)
        if is_wrapper(kind) or ((kind is list or kind is tuple) and holds_wrapper(value)):
            return True
    return False


def is_faking() -> bool:
    """Whether all that is made now is fake; asked where some dispatch mode is on."""
    return _fake_mode is not None and _mode_of(_fake_mode) is not None


class Passing(Watch):
    """Lets wrappers dispatch with the device's mode on; what else runs meanwhile comes to the device as a call."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kinds = _wrappers_in(args, kwargs)
        with _enabled(), self._device.intercepting():
            for kind in kinds:
                if _dispatches_below_python(kind):
                    return self._dispatch_below_python(func, args, kwargs)
                result = kind.__torch_dispatch__(func, types, args, kwargs)
                if result is not NotImplemented:
                    return result
            return func(*args, **kwargs)

    def _dispatch_below_python(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Judges the call for that on the tensor inside, which nobody sees, and marks what comes of it."""
        device = self._device
        is_on_device = any(_is_on_device(value) for value in _flat(args) if isinstance(value, Tensor))
        target = kwargs.get("device")
        goes_to_device = is_on_device if target is None else device.owns(target)
        if goes_to_device == is_on_device:
            self.judge(func, args, kwargs)
        elif not kwargs.get("non_blocking"):
            device.waits("pageable_upload" if goes_to_device else "d2h_copy")
        if target is not None:
            kwargs = {**kwargs, "device": CPU if goes_to_device else target}
        result = _call_below_python(func, args, kwargs)
        if goes_to_device:
            for value in _flat((result,)):
                wrap(getattr(value, _LOCAL, None))
        return result


def _dispatches_below_python(kind: Any) -> bool:
    """Whether it is ``DTensor``, whose dispatch in Python only calls the operator again."""
    return (kind.__module__, kind.__name__) == ("torch.distributed.tensor", "DTensor")


def _call_below_python(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """Calls an operator as C++ does, which does not take numbers for tensors."""
    wanted = [argument.type.kind() == "TensorType" for argument in func._schema.arguments]
    tensors = [
        torch.tensor(value, device=CPU) if is_tensor and isinstance(value, int | float | complex) else value
        for value, is_tensor in zip(args, wanted, strict=False)
    ]
    return _call(func._handle, *tensors, **kwargs)


def is_passing() -> bool:
    """Whether a wrapper's own code runs: then torch may ask for CUDA before it asks the wrapper."""
    num_modes: int = _num_modes()
    return num_modes > 0 and isinstance(_mode_at(num_modes - 1), Passing)


def run_wrapped(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """Runs a call with wrappers among its arguments."""
    kinds = _wrappers_in(args, kwargs)
    if any(issubclass(kind, _FAKE) for kind in kinds):
        with hidden():
            return func(*args, **kwargs)
    name = name_of(func)
    if name in _FACTS and len(kinds) == 1:
        return _fact(device, func, args[0])
    options = _options(name, args[1:], kwargs) if name in _MOVES and is_wrapper(type(args[0])) else None
    with Passing(device):
        if options is not None and _is_copy(device, args[0], options):
            return _move(device, args[0], options)
        if func not in _functions.running:
            result = _run_functions(device, kinds, func, types, args, kwargs)
            if result is not NotImplemented:
                return result
        if options is not None:
            return _move(device, args[0], options)
        own_python = device.composites.of(func)
        if own_python is not None:
            with unwatched(), device.intercepting():
                return own_python(*args, **kwargs)
        with hidden():
            return func(*args, **kwargs)


class _Functions(threading.local):
    """The calls that wrappers on this thread have taken over; what they pass on is not theirs again."""

    running: tuple[Func, ...] = ()


_functions = _Functions()


def _run_functions(
    device: SimulatedDevice, kinds: list[Any], func: Func, types: Any, args: Args, kwargs: Kwargs
) -> Any:
    """What the wrappers' own replacement of a function gives; NotImplemented where there is none."""
    before, _functions.running = _functions.running, (*_functions.running, func)
    try:
        for kind in kinds:
            if getattr(kind.__torch_function__, "__func__", kind.__torch_function__) in _DEFAULTS:
                continue
            with device.intercepting():
                result = kind.__torch_function__(func, types, args, kwargs)
            if result is not NotImplemented:
                return result
        return NotImplemented
    finally:
        _functions.running = before


def _wrappers_in(args: Args, kwargs: Kwargs) -> list[Any]:
    """The classes of wrappers among the arguments, derived ones first, as torch asks them."""
    found: list[Any] = [type(value) for value in _flat((*args, *kwargs.values()))]
    kinds: dict[Any, None] = dict.fromkeys(kind for kind in found if is_wrapper(kind))
    return sorted(kinds, key=lambda kind: -sum(issubclass(kind, other) for other in kinds))


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if type(value) in (list, tuple):
            yield from _flat(value)
        else:
            yield value


def _is_on_device(tensor: Tensor) -> bool:
    return bool(tensor.__dict__.get(_MARK)) or type(getattr(tensor, _LOCAL, None)) is SimulatedTensor


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


def _is_copy(device: SimulatedDevice, tensor: Tensor, options: dict[str, Any]) -> bool:
    """Whether a move is between the device and another one; below Python a wrapper is always the host's."""
    target = options.get("device")
    return target is not None and device.owns(target) != _is_on_device(tensor)


def _move(device: SimulatedDevice, tensor: Tensor, options: dict[str, Any]) -> Any:
    options = {name: value for name, value in options.items() if name != "copy"}
    with hidden():
        if not _is_copy(device, tensor, options):
            if options.get("device") is not None and device.owns(options["device"]):
                del options["device"]
            return torch.Tensor.to(tensor, **options) if options else tensor
        options["device"] = device.device if device.owns(options["device"]) else torch.device(options["device"])
        return _call(_to_copy._handle, tensor, **options)


def patch_wrappers(patches: Patches, device: SimulatedDevice) -> None:
    """Replaces what makes a wrapper: torch without a GPU cannot run gradients of a tensor that says "cuda" in C++."""
    native: Any = torch_inner_names.MAKE_WRAPPER.find()

    def make(cls: Any, size: Any, *args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(_PARAMETERS, args, strict=False)), **kwargs}
        target = given.get("device")
        if target is None or given.get("dispatch_device") or not device.owns(target) or is_faking():
            return native(cls, size, *args, **kwargs)
        place = _PARAMETERS.index("device")
        if len(args) > place:
            made = native(cls, size, *args[:place], CPU, *args[place + 1 :], **kwargs)
        else:
            made = native(cls, size, *args, **{**kwargs, "device": CPU})
        setattr(made, _MARK, True)
        return made

    patches.replace(torch_inner_names.MAKE_WRAPPER, lambda found: staticmethod(make))


def patch_aliases(patches: Patches) -> None:
    """Replaces what makes another tensor, maybe of another class, over the memory of one."""
    refusing = staticmethod(_refusing(torch_names.MAKE_SUBCLASS.find()))
    patches.replace(torch_names.MAKE_SUBCLASS, lambda found: refusing)
    patches.replace(torch_inner_names.PARAMETER_META, lambda found: _make_parameter)
    patches.add(Tensor, "__new__", staticmethod(_aliasing(Tensor.__new__)))


def _make_parameter(cls: Any, *args: Any, **kwargs: Any) -> Any:
    """A parameter of a derived class over a device tensor is on the device, and stands for that class."""
    made = type.__call__(cls, *args, **kwargs)
    if type(made) is SimulatedTensor and issubclass(cls, torch.nn.Parameter) and cls is not torch.nn.Parameter:
        made.__dict__["_host_type"] = cls
        if cls.__init__ is not torch.nn.Parameter.__init__:
            cls.__init__(made, *args, **kwargs)
    return made


_PARAMETERS = (
    *("strides", "storage_offset", "memory_format", "dtype", "layout", "device", "pin_memory", "requires_grad"),
    *("dispatch_sizes_strides_policy", "dispatch_device"),
)


def _refusing(native: Any) -> Any:
    """``_make_subclass``: another class over the memory of a device tensor would be the host's."""

    def make(cls: Any, data: Any, requires_grad: bool = False, **kwargs: Any) -> Any:
        if type(data) is SimulatedTensor and not issubclass(cls, SimulatedTensor | torch.nn.Parameter):
            raise NotSimulated(f"{cls.__name__}(device tensor)", _SUBCLASS)
        return native(cls, data, requires_grad, **kwargs)

    return make


def _read_sizes(args: Args) -> None:
    """Torch reads sizes among several arguments without asking anybody."""
    from bagel_perf.simulated.device import active_device

    sizes = [value.element_size() for value in args if type(value) is SimulatedTensor]
    if sizes and (device := active_device()) is not None:
        device.reads("tensor_as_size", sizes)


def _aliasing(native: Any) -> Any:
    """``torch.Tensor(x)``, which is another tensor over the same memory."""

    def new(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) != 1 or type(args[0]) is not SimulatedTensor:
            _read_sizes(args)
            return native(cls, *args, **kwargs)
        if cls is not Tensor:
            raise NotSimulated(f"{cls.__name__}(device tensor)", _SUBCLASS)
        return args[0].detach()

    return new


def is_native(args: Args, kwargs: Kwargs) -> bool:
    """Whether a call makes or takes fake tensors alone."""
    return is_faking() and not holds_simulated((*args, *kwargs.values()))
