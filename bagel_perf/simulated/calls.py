"""Chooses how a torch function runs on the simulated device, where its result belongs, and runs the ordinary ones.

Functions known not to wait go straight to the CPU, unless a device tensor stands where they take a number. Those that
torch wrote in Python run their own Python on the device. All others run under ``Watch``, which costs some 10 us a call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bagel_perf.rules import torch_names
from bagel_perf.rules.calls import accepts_host_scalars, has_place_for, kind_of_reads, takes_sizes
from bagel_perf.simulated.custom_operators import is_custom, run_custom
from bagel_perf.simulated.tensor import SimulatedTensor, hidden, is_simulated, leaves, wrap

if TYPE_CHECKING:
    from bagel_perf.simulated.device import SimulatedDevice

_HOST = "cpu"


def is_elsewhere(device: SimulatedDevice, target: Any) -> bool:
    """Whether ``target``, a device of any spelling or None, is neither this device nor the host."""
    return target is not None and not device.owns(target) and torch.device(target).type != _HOST


def run_elsewhere(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs what gives tensors of another place: device tensors are taken for the CPU tensors they are."""
    with hidden():
        return func(*args, **kwargs)


def has_values(tensor: Tensor) -> bool:
    """Whether a tensor lives on the device or the host; a copy with any other place is no copy of values."""
    if type(tensor) is SimulatedTensor:
        return True
    with hidden():
        return tensor.device.type == _HOST


def goes_to_device(types: Any, values: Iterable[Any], *, takes_numbers: bool = False) -> bool:
    """Whether what is made of ``values`` is on the device: where one of its tensors with dimensions is.

    Torch names no ``types`` for tensors in lists. Where it does, any tensor of the device decides, unless the function
    ``takes_numbers``: a device scalar beside a host tensor is one then.
    """
    if SimulatedTensor in types and not takes_numbers:
        return True
    tensors = list(_tensors(values))
    with hidden():
        decisive = [tensor for tensor in tensors if tensor.dim()]
    return SimulatedTensor in map(type, decisive or tensors)


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


Func = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Handler = Callable[["SimulatedDevice", Func, Any, Args, Kwargs], Any]

CPU = torch.device("cpu")
_Operator: Any = torch_names.OPERATOR.find()
_OPERATORS: tuple[Any, ...] = (_Operator, torch_names.OPERATOR_PACKET.find())
_factories: Any = torch_names.FACTORIES.find()

_ARITHMETIC = """
add add_ sub sub_ mul mul_ div div_ __add__ __radd__ __iadd__ __sub__ __rsub__ __isub__ __mul__ __rmul__ __imul__
__truediv__ __rtruediv__ __itruediv__ __neg__ __pow__ __rpow__ __and__ __or__ __xor__ __invert__ __matmul__ __lt__
__le__ __gt__ __ge__ __eq__ __ne__ lt le gt ge eq ne neg pow square sqrt rsqrt reciprocal exp log sin cos tanh
sigmoid erf abs round floor logical_and logical_or logical_not maximum minimum clamp clamp_ lerp addcmul rsub
true_divide bitwise_not
"""
_TENSORS = """
matmul mm bmm addmm baddbmm linear conv2d conv_transpose2d scaled_dot_product_attention layer_norm group_norm
rms_norm silu gelu relu softmax log_softmax embedding cat concat stack sum mean amax amin max min any all cumsum var
clone contiguous empty_like zeros_like ones_like randn_like rand_like exponential_ normal_ uniform_ zero_ fill_ tril
triu gather index_select detach requires_grad_ interpolate pad bfloat16 float half double int long bool
"""
_SHAPES = """
view reshape expand expand_as transpose permute t squeeze unsqueeze flatten unflatten narrow split chunk unbind
repeat dim size numel stride storage_offset is_contiguous is_floating_point is_complex element_size data_ptr
untyped_storage __len__ __hash__ nelement ndimension new_zeros new_empty new_ones new_full roll flip movedim select
"""
_FIRST_NAMES = ("condition", "input")
"""What torch's functions call their first tensor."""
_TENSORS_ONLY = frozenset(f"{_ARITHMETIC} {_TENSORS}".split())
_FIRST_ONLY = frozenset(_SHAPES.split())


def handler_of(device: SimulatedDevice, func: Func) -> Handler:
    """The handler of a torch function, which does not depend on its arguments."""
    from bagel_perf.simulated import creation, overrides, reads, storages, transfers

    special = {
        **reads.READ_HANDLERS,
        **transfers.HANDLERS,
        **reads.INDEX_HANDLERS,
        **creation.HANDLERS,
        **storages.HANDLERS,
        **overrides.HANDLERS,
    }
    name = name_of(func)
    device.has_sparse |= "sparse" in name
    if name in special:
        return _with_first(special[name])
    if name.startswith(("get ", "set ")):
        return _property
    if isinstance(func, _OPERATORS):
        return run_custom if is_custom(func) else watched
    if func in _factories():
        return creation.create
    own_python = device.composites.of(func)
    thorough = watched if own_python is None else _composite(own_python)
    if name in _TENSORS_ONLY:
        return _among_tensors(name, thorough)
    return _of_first(watched) if name in _FIRST_ONLY else thorough


def is_known_of_strided(name: str) -> bool:
    """Whether a function goes straight to the CPU, as it does not wait for tensors with strides."""
    return name in _TENSORS_ONLY or name in _FIRST_ONLY


def name_of(func: Func) -> str:
    """Name without overload; "get x" and "set x" for a property."""
    if isinstance(func, _Operator):
        full: str = func._schema.name
        return full.removeprefix("aten::")
    name: str = getattr(func, "__name__", str(func))
    if name in ("__get__", "__set__", "__delete__"):
        getter_of: Any = getattr(func, "__self__", None)
        read = getattr(getter_of, "fget", getter_of)  # a property written in Python has no name of its own
        return f"{'get' if name == '__get__' else 'set'} {read.__name__}"
    return name


def holds_simulated(values: Iterable[Any]) -> bool:
    """Whether a tensor of the device is among ``values``, or in a sequence among them."""
    for value in values:
        kind = type(value)
        if kind is SimulatedTensor:
            return True
        if isinstance(value, list | tuple) and SimulatedTensor in map(type, value):
            return True
    return False


def check_devices(device: SimulatedDevice, func: Func, args: Args, kwargs: Kwargs) -> None:
    """Raises RuntimeError if a host tensor is among the arguments that CUDA would not take beside device tensors."""
    has_scalars = _has_host_scalars(device, func, args)
    if kwargs:
        has_scalars |= _has_host_scalars(device, func, kwargs.values())
    if has_scalars:
        name = name_of(func)
        if not accepts_host_scalars(name) and has_place_for(name, args, kwargs, _is_host, of_unknown=True):
            device.cannot_judge(f"{name} with a host scalar")


def _has_host_scalars(device: SimulatedDevice, func: Func, values: Iterable[Any]) -> bool:
    """Whether a 0-d host tensor is among ``values``; RuntimeError for one with dimensions."""
    found = False
    for value in values:
        if type(value) is SimulatedTensor:
            continue
        if isinstance(value, list | tuple):
            found |= _has_host_scalars(device, func, value)
        elif isinstance(value, Tensor):
            if value.dim():
                raise devices_differ(device, func)
            found = True
    return found


def devices_differ(device: SimulatedDevice, func: Func) -> RuntimeError:
    """The error that CUDA raises, with its words."""
    found = f"found at least two devices, {device.device} and cpu! (in {name_of(func)})"
    return RuntimeError(f"Expected all tensors to be on the same device, but {found}")


def plain(device: SimulatedDevice, func: Func, args: Args, kwargs: Kwargs) -> Any:
    """Runs on device tensors a function that does not wait; gives device tensors."""
    check_devices(device, func, args, kwargs)
    with hidden():
        return wrap(func(*args, **kwargs))


def watched(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """Runs a function and reports the waits of the operators it is made of."""
    if "device" in kwargs:
        from bagel_perf.simulated.creation import create

        return create(device, func, types, args, kwargs)
    if SimulatedTensor not in types and not holds_simulated((*args, *kwargs.values())):
        return func(*args, **kwargs)
    is_on_device = goes_to_device(types, (*args, *kwargs.values()), takes_numbers=_takes_numbers(func, args, kwargs))
    if is_on_device and not name_of(func).startswith("prims::"):  # inside a transform's gradient not all are marked
        check_devices(device, func, args, kwargs)
    return run_watched(device, func, args, kwargs, is_on_device=is_on_device)


def _takes_numbers(func: Func, args: Args, kwargs: Kwargs) -> bool:
    """Whether device scalars may stand for numbers, so that they do not say where the result belongs."""
    name = name_of(func)
    if takes_sizes(name):
        return True
    has_host = any(isinstance(value, Tensor) and not is_simulated(value) for value in (*args, *kwargs.values()))
    return has_host and not has_place_for(name, args, kwargs, is_simulated)


def run_watched(device: SimulatedDevice, func: Func, args: Args, kwargs: Kwargs, *, is_on_device: bool) -> Any:
    """Runs under ``Watch``; the results are on the device or on the host."""
    watch = device.watch(kind_of_reads(name_of(func)))
    outer, watch.hosts = watch.hosts, _hosts_among((*args, *kwargs.values()))
    try:
        with hidden(), watch:
            result = func(*args, **kwargs)
    finally:
        watch.hosts = outer
    with hidden():
        return wrap(result) if is_on_device else result


def _hosts_among(values: Iterable[Any]) -> frozenset[int]:
    """Identities of the host tensors among some values, and in sequences among them."""
    return frozenset(id(value) for value in leaves(values) if _is_host(value))


def _is_host(value: Any) -> bool:
    return isinstance(value, Tensor) and type(value) is not SimulatedTensor


def _composite(own_python: Func) -> Handler:
    """Runs a function of Python on the device: each torch function it calls is judged by itself."""

    def run(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        is_host_call = SimulatedTensor not in types and "device" not in kwargs
        if is_host_call and not holds_simulated((*args, *kwargs.values())):
            return func(*args, **kwargs)
        with device.intercepting():
            return own_python(*args, **kwargs)

    return run


def _among_tensors(name: str, thorough: Handler) -> Handler:
    """A function that takes device tensors in any place of a tensor, and does not wait for them there."""
    known: dict[tuple[Any, ...], bool] = {}

    def run(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        if SimulatedTensor not in types or "device" in kwargs:
            return thorough(device, func, types, args, kwargs)
        if len(args) > 1 or kwargs:
            form = (*map(_form, args), *kwargs, *map(_form, kwargs.values()))
            is_plain = known.get(form)
            if is_plain is None:
                is_plain = known[form] = has_place_for(name, args, kwargs, is_simulated)
            if not is_plain:
                return thorough(device, func, types, args, kwargs)
        return plain(device, func, args, kwargs)

    return run


def _form(value: Any) -> Any:
    """What decides whether a value fits into a place: its type, and whether it holds device tensors."""
    kind = type(value)
    if isinstance(value, list | tuple):
        return kind, frozenset(map(_form, value))
    return kind


def _of_first(thorough: Handler) -> Handler:
    """A function that takes a device tensor as its first argument alone."""

    def run(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        if SimulatedTensor not in types or holds_simulated(args[1:]) or (kwargs and _asks_more(kwargs)):
            return thorough(device, func, types, args, kwargs)
        return plain(device, func, args, kwargs)

    return run


def _with_first(handler: Handler) -> Handler:
    """A handler that finds the first tensor in its place, also where it was given by name."""

    def run(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        if not args:
            for name in _FIRST_NAMES:
                if name in kwargs:
                    rest = {other: value for other, value in kwargs.items() if other != name}
                    return handler(device, func, types, (kwargs[name],), rest)
        return handler(device, func, types, args, kwargs)

    return run


def _asks_more(kwargs: Kwargs) -> bool:
    """Whether a device scalar or another device is among named arguments."""
    return "device" in kwargs or holds_simulated(kwargs.values())


def _property(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    if type(args[0]) is not SimulatedTensor:
        return func(*args, **kwargs)
    with hidden():
        return wrap(func(*args, **kwargs))
