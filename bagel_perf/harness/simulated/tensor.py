"""The tensors of the simulated device: CPU tensors of a type of their own.

Underneath each is an ordinary CPU tensor, so kernels, views, aliasing and autograd are the CPU's to the bit. Only the
type says that it lives on the device, and torch hands every call that meets this type, or any call at all while the
device is open, to ``SimulatedDevice``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

DEVICE = torch.device("privateuseone", 0)
"""The label of the device: torch's spare backend, left unregistered and unnamed, as either would change the process."""

_as_subclass: Any = torch.Tensor.as_subclass
_make_subclass: Any = torch.Tensor._make_subclass
hidden: Any = torch._C.DisableTorchFunction
"""Context in which torch takes simulated tensors for the CPU tensors they are."""


class SimulatedTensor(Tensor):
    """A tensor on the simulated device; made by ``SimulatedDevice.wrap`` and by whatever allocates on that device."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Reached where the device's mode is not: on other threads, and when no device is open."""
        from bagel_perf.harness.simulated.device import active_device

        device = active_device()
        if device is None:
            raise RuntimeError("a tensor of the simulated device was used after its context ended; unwrap it inside")
        return device.call(func, types, args, kwargs or {})

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        """Shows the values for debugging; counts no wait, where on CUDA printing waits many times."""
        return f"simulated({to_plain(self)!r})"


def to_simulated(tensor: Tensor) -> SimulatedTensor:
    """The same memory as a tensor of the device; keeps its place in the autograd graph."""
    if tensor.requires_grad and tensor.is_leaf:
        leaf: SimulatedTensor = _make_subclass(SimulatedTensor, tensor, True)
        return leaf
    simulated: SimulatedTensor = _as_subclass(tensor, SimulatedTensor)
    return simulated


def to_plain(tensor: Tensor) -> Tensor:
    """The same memory as an ordinary CPU tensor."""
    with hidden():
        plain: Tensor = _as_subclass(tensor, Tensor)
        return plain


def wrap(value: Any) -> Any:
    """``value`` with each CPU tensor in it made a tensor of the device; sequences keep their type."""
    kind = type(value)
    if kind is Tensor:
        return to_simulated(value)
    if kind is tuple or kind is list:
        return kind([wrap(item) for item in value])
    if isinstance(value, tuple):
        # torch.return_types take one sequence, named tuples their fields.
        items = [wrap(item) for item in value]
        return kind(*items) if hasattr(value, "_fields") else kind(items)
    if kind is dict:
        return {key: wrap(item) for key, item in value.items()}
    return value
