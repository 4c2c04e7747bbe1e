"""Where a call's result belongs: on the device, on the host, or elsewhere, as on "meta", which holds no values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bagel_perf.harness.simulated.tensor import SimulatedTensor, hidden

if TYPE_CHECKING:
    from collections.abc import Callable

    from bagel_perf.harness.simulated.device import SimulatedDevice

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
