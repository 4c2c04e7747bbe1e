"""Tensors made from host values, by fills and ranges, and by random generators.

Data is uploaded from pageable memory; fills and ranges are made on the device. Generators are the CPU's, and host and
device share the default one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bagel_perf.rules import torch_names
from bagel_perf.simulated.calls import (
    CPU,
    Args,
    Func,
    Handler,
    Kwargs,
    holds_simulated,
    is_elsewhere,
    name_of,
    run_elsewhere,
    run_watched,
)
from bagel_perf.simulated.tensor import DEVICE, SimulatedTensor, hidden, wrap
from bagel_perf.simulated.transfers import bytes_of, move

if TYPE_CHECKING:
    from bagel_perf.simulated.device import SimulatedDevice


def create(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """A factory of a size, such as ``zeros``, ``arange``, ``randn`` or ``zeros_like``; sizes may be device scalars."""
    kwargs = dict(kwargs)
    target = kwargs.pop("device", None)
    is_like = name_of(func) not in _OF_NUMBERS and (SimulatedTensor in types or _is_made_of_tensors(func, args, types))
    if target is None and not is_like:
        target = torch_names.default_device()
    goes_to_device = is_like if target is None else device.owns(target)
    if not goes_to_device and is_elsewhere(device, target):
        return run_elsewhere(func, args, {**kwargs, "device": target})
    is_pinned = bool(kwargs.pop("pin_memory", False)) and not goes_to_device
    if target is not None:
        kwargs["device"] = CPU
    if holds_simulated((*args, *kwargs.values())):
        made = run_watched(device, func, args, kwargs, is_on_device=goes_to_device)
    else:
        with hidden():
            made = func(*args, **kwargs)
            made = wrap(made) if goes_to_device else made
    return device.pinned.add(made) if is_pinned else made


_FACTORIES = """
empty empty_permuted empty_strided zeros ones full rand randn randint randperm arange range eye linspace logspace
tril_indices triu_indices scalar_tensor hann_window hamming_window blackman_window bartlett_window kaiser_window
"""
_OF_NUMBERS = frozenset(_FACTORIES.split())
"""Factories that take a device scalar for a number: it does not say where the result belongs."""


def _is_made_of_tensors(func: Func, args: Args, types: Any) -> bool:
    """Whether this is a factory of sparse tensors, which torch offers without types, of device tensors."""
    return not types and name_of(func).startswith("sparse_") and holds_simulated(args)


def _from_data(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """``torch.tensor`` and its kin: reads each device scalar in the data, then uploads the whole."""
    kwargs = dict(kwargs)
    target, is_pinned = kwargs.pop("device", None), bool(kwargs.pop("pin_memory", False))
    is_method = name_of(func) == "new_tensor"
    data = _data_of(args[is_method:], kwargs)
    if target is None:
        target = _device_like(device, args[0] if is_method else data)
    goes_to_device = device.owns(target)
    if not goes_to_device and is_elsewhere(device, target):
        return run_elsewhere(func, args, {**kwargs, "device": target})
    if isinstance(data, Tensor):
        return _from_tensor(device, func, data, goes_to_device, kwargs)
    device.reads("list_of_scalars", _sizes_of_scalars(data))
    with hidden():
        made: Tensor = func(*args, **kwargs, device=CPU)
        if not goes_to_device:
            return device.pinned.add(made) if is_pinned else made
    # The upload copies: as_tensor may have given a view of the caller's memory.
    if num_bytes := bytes_of(made):
        device.waits("pageable_upload", 1, num_bytes)
    with hidden():
        return wrap(made.clone() if name_of(func) != "tensor" else made)


def _data_of(args: Args, kwargs: Kwargs) -> Any:
    return args[0] if args else kwargs.get("data", kwargs.get("obj"))


def _device_like(device: SimulatedDevice, source: Any) -> torch.device | None:
    """Where data goes that is made from, or like, ``source``, if no device is given."""
    if type(source) is SimulatedTensor:
        return device.device
    return CPU if isinstance(source, Tensor) else torch_names.default_device()


def _from_tensor(device: SimulatedDevice, func: Func, data: Tensor, goes_to_device: bool, kwargs: Kwargs) -> Tensor:
    copies = name_of(func) in ("tensor", "new_tensor") or bool(kwargs.get("copy"))
    moved = move(device, data, goes_to_device, {"dtype": kwargs.get("dtype") or data.dtype, "copy": copies})
    moved = moved.detach() if name_of(func) in ("tensor", "new_tensor") else moved
    return moved.requires_grad_() if kwargs.get("requires_grad") else moved


_NUMBERS = {int, float, bool, complex}


def _sizes_of_scalars(data: Any) -> list[int | None]:
    """Bytes of each device scalar in nested sequences: it is read by itself."""
    if type(data) is SimulatedTensor:
        with hidden():
            return [data.element_size()] * data.numel()
    if not isinstance(data, Sequence) or isinstance(data, str | bytes | range):
        return []
    kinds = set(map(type, data))
    if kinds <= _NUMBERS:
        return []
    return [size for item in data for size in _sizes_of_scalars(item)]


HANDLERS: dict[str, Handler] = dict.fromkeys(("tensor", "as_tensor", "asarray", "new_tensor"), _from_data)

_Native: Any = torch.Generator


class _AnyGenerator(type(_Native)):  # type: ignore[misc]
    """Generators made before the device was opened are generators too."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _Native)


class SimulatedGenerator(_Native, metaclass=_AnyGenerator):  # type: ignore[misc]
    """Stands for ``torch.Generator``, on either device."""

    _device: torch.device

    def __new__(cls, device: Any = "cpu") -> Any:
        wanted = torch.device(device)
        made = super().__new__(cls, "cpu" if wanted.type == "cuda" else wanted)
        made._device = DEVICE if wanted.type == "cuda" else wanted
        return made

    @property
    def device(self) -> torch.device:
        return self._device


def manual_seed(seed: int) -> None:
    torch.default_generator.manual_seed(int(seed))


def seed() -> None:
    torch.default_generator.seed()


def initial_seed() -> int:
    return torch.default_generator.initial_seed()


def get_rng_state(device: Any = "cuda") -> Tensor:
    return torch.default_generator.get_state()


def set_rng_state(new_state: Tensor, device: Any = "cuda") -> None:
    torch.default_generator.set_state(new_state)


FUNCTIONS: dict[str, Any] = {
    "manual_seed": manual_seed,
    "manual_seed_all": manual_seed,
    "seed": seed,
    "seed_all": seed,
    "initial_seed": initial_seed,
    "get_rng_state": get_rng_state,
    "set_rng_state": set_rng_state,
    "get_rng_state_all": lambda: [get_rng_state()],
    "set_rng_state_all": lambda new_states: set_rng_state(new_states[0]),
}
