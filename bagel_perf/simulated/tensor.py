"""The tensors of the simulated device: CPU tensors of a type of their own.

Underneath each is an ordinary CPU tensor, so kernels, views, aliasing and autograd are the CPU's to the bit. Only the
type of the Python object says that it lives on the device, and torch hands every call that meets this type, or any call
at all while the device is open, to ``SimulatedDevice``. A result is moved to the device by changing its type: that
costs a tenth of making another object, and torch keeps the object as long as it keeps the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bagel_perf.rules import torch_names
from bagel_perf.simulated.patches import NotSimulated

DEVICE = torch.device("cuda", 0)
"""The label of the device, as of the one GPU that a CUDA program sees."""

_as_subclass: Any = torch.Tensor.as_subclass
_make_subclass: Any = torch_names.MAKE_SUBCLASS.find()
hidden: Any = torch_names.DISABLE_TORCH_FUNCTION.find()
"""Context in which torch takes simulated tensors for the CPU tensors they are."""


def _shown_as(name: str) -> Callable[[type], type]:
    """Torch prints a tensor by the name of its type."""

    def rename(cls: type) -> type:
        cls.__name__ = name
        return cls

    return rename


@_shown_as("tensor")
class SimulatedTensor(Tensor):
    """A tensor on the simulated device; made by ``SimulatedDevice.wrap`` and by whatever allocates on that device."""

    def __new__(cls, data: Any, requires_grad: bool = True, **options: Any) -> Any:
        """What ``type(parameter)(data, requires_grad=...)`` means for a parameter on the host."""
        return nn.Parameter(data, requires_grad=requires_grad, **options)

    @property
    def __class__(self) -> type:
        """What ``isinstance`` and ``super`` ask: parameters of a derived class are still of it."""
        return derived_class_of(self) or SimulatedTensor

    @__class__.setter
    def __class__(self, kind: type) -> None:
        object.__dict__["__class__"].__set__(self, kind)

    def __getattr__(self, name: str) -> Any:
        """Methods of a derived class of parameters, which only its own code knows."""
        for kind in (derived_class_of(self) or object).__mro__:
            if kind is nn.Parameter:
                break
            if name in vars(kind):
                found = vars(kind)[name]
                return found.__get__(self, type(self)) if hasattr(found, "__get__") else found
        raise AttributeError(f"'Tensor' object has no attribute {name!r}")

    def as_subclass(self, cls: Any) -> Any:
        """Refused for other classes: their tensors would be the host's, and their waits in no count."""
        if issubclass(SimulatedTensor, cls):
            return self
        raise NotSimulated(f"as_subclass({cls.__name__})", "a subclass of Tensor would not be on the simulated device")

    def record_stream(self, s: Any) -> None:
        """Memory is freed when nobody uses it; here because torch takes no other streams than its own."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Reached where the device's mode is not: inside its own calls, and when no device is open."""
        from bagel_perf.simulated.device import active_device

        device = active_device()
        if device is None:
            raise RuntimeError("a tensor of the simulated device was used after its context ended; unwrap it inside")
        return device.call(func, types, args, kwargs or {})


def is_simulated(value: Any) -> bool:
    """Whether a value is a tensor of the device."""
    return type(value) is SimulatedTensor


def derived_class_of(tensor: SimulatedTensor) -> Any:
    """The class of a parameter where that is derived from ``nn.Parameter``."""
    kind = tensor.__dict__.get("_host_type")
    return kind if kind is not None and kind is not nn.Parameter and issubclass(kind, nn.Parameter) else None


def to_simulated(tensor: Tensor) -> SimulatedTensor:
    """The same memory as another tensor, of the device; keeps its place in the autograd graph."""
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


def occupy(tensor: Tensor) -> None:
    """Makes a CPU tensor, the object itself, a tensor of the device; a parameter stays one."""
    kind = type(tensor)
    state: Any = tensor
    if kind is not Tensor:
        state._host_type = kind
        state._is_param = isinstance(tensor, nn.Parameter)
    state.__class__ = SimulatedTensor


def vacate(tensor: Tensor) -> None:
    """Makes a tensor of the device, the object itself, a CPU tensor."""
    state = tensor.__dict__
    is_parameter = state.pop("_is_param", False)
    kind: Any = state.pop("_host_type", nn.Parameter if is_parameter else Tensor)
    tensor.__class__ = kind


def leaves(values: Iterable[Any]) -> Iterator[Any]:
    """Yields what is in nested lists and tuples."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from leaves(value)
        else:
            yield value


def wrap(value: Any) -> Any:
    """``value`` with each fresh CPU tensor in it made a tensor of the device; sequences keep their type."""
    kind = type(value)
    if kind is Tensor:
        value.__class__ = SimulatedTensor
        return value
    if kind is tuple or kind is list:
        return kind([wrap(item) for item in value])
    if isinstance(value, tuple):
        # torch.return_types take one sequence, named tuples their fields.
        items = [wrap(item) for item in value]
        return kind(*items) if hasattr(value, "_fields") else kind(items)
    if kind is dict:
        return {key: wrap(item) for key, item in value.items()}
    return value
