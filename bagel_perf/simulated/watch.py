"""Looks into a call: sees each operator it is made of, the scalars that torch's argument parser reads included.

While somebody wants to know whether the device is used, each call that takes or gives one of its tensors is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from bagel_perf.records.sites import Kind
from bagel_perf.rules import torch_names
from bagel_perf.rules.copies import answer_bytes
from bagel_perf.rules.operators import verdict_on, waits_of_sparse
from bagel_perf.simulated.calls import Args, Func, Handler, Kwargs, holds_simulated, name_of
from bagel_perf.simulated.custom_operators import Way, is_custom, run_python, way_of
from bagel_perf.simulated.lacking import run_operator
from bagel_perf.simulated.tensor import SimulatedTensor, hidden, leaves, wrap

if TYPE_CHECKING:
    from bagel_perf.simulated.device import SimulatedDevice

_QUESTIONS = """
dim ndimension size numel nelement stride storage_offset is_contiguous is_floating_point is_complex element_size
data_ptr untyped_storage __len__ __hash__ is_pinned is_shared __dlpack_device__ __format__
"""
_ABOUT_A_TENSOR = frozenset(_QUESTIONS.split())
"""What the host knows of a tensor without the device."""


def is_question(name: str) -> bool:
    """Whether a call asks what the host knows of a tensor, or for a part of it."""
    return name in _ABOUT_A_TENSOR or name.startswith(("get ", "set "))


def reporting(handler: Handler) -> Handler:
    """The handler, reporting each call that is no question to the device."""

    def handle(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        result = handler(device, func, types, args, kwargs)
        name = name_of(func)
        if not is_question(name):
            device.called(name, args, kwargs, result)
        return result

    return handle


def telling(handler: Handler) -> Handler:
    """The handler, telling the device of a call that takes or gives one of its tensors."""

    def handle(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        name = name_of(func)
        if name in _ABOUT_A_TENSOR or name.startswith("get "):
            return handler(device, func, types, args, kwargs)
        takes = SimulatedTensor in types
        if takes:
            device.used()
        result = handler(device, func, types, args, kwargs)
        if not takes and holds_simulated((result,)):
            device.used()
        return result

    return handle


_pop_mode: Any = torch_names.POP_DISPATCH_MODE.find()
_num_modes: Any = torch_names.NUM_DISPATCH_MODES.find()
_mode_at: Any = torch_names.DISPATCH_MODE_AT.find()
_has_kernel: Any = torch_names.HAS_KERNEL.find()
_COMPOSITE: Any = torch_names.COMPOSITE_KEY.find()


class Watch(torch_names.OperatorMode):
    """Reports the waits of the operators that run in its context, all of whose tensors live on the device.

    ``reads`` is the kind under which scalar reads are reported; ``hosts`` are the identities of the 0-d tensors among
    the call's arguments that live on the host all the same.
    """

    def __init__(self, device: SimulatedDevice, *, reads: Kind = "scalar_read") -> None:
        super().__init__()
        self._device = device
        self._reads = reads
        self.hosts: frozenset[int] = frozenset()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if is_custom(func) and way_of(func) is Way.PYTHON:
            return run_python(self._device, func, args, kwargs)
        if is_composite(func):
            with self:  # torch's own C++, of which Python's decompositions differ
                return func._op_dk(_COMPOSITE, *args, **kwargs)
        self.judge(func, args, kwargs)
        return run_operator(self._device, func, args, kwargs)

    def judge(self, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Reports the waits of one operator."""
        if operator._schema.name == "aten::_local_scalar_dense":
            self._device.waits(self._reads, self._is_on_device(args[0]), args[0].element_size())
            return
        self._device.has_sparse |= "sparse" in operator._schema.name
        times = self._waits_of(operator, args, kwargs)
        if times is None:
            self._device.has_nested |= "nested" in operator._schema.name
            self._device.cannot_judge(str(operator))
        elif times:
            name = operator._schema.name.removeprefix("aten::")
            num_bytes = answer_bytes(name, args, kwargs, self._is_on_device)
            self._device.waits(verdict_on(operator).kind, times, num_bytes)

    def _waits_of(self, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
        """What is known of operators was measured on strided tensors, but for little."""
        tensors = [value for value in leaves(args) if isinstance(value, torch.Tensor)]
        if any(tensor.is_nested for tensor in tensors):
            return None
        if any(tensor.layout is not torch.strided for tensor in tensors):
            return waits_of_sparse(operator, tensors)
        return verdict_on(operator).waits(args, kwargs, self._is_on_device)

    def _is_on_device(self, value: Any) -> bool:
        """What was made inside a call is on the device, although no type says so."""
        return isinstance(value, torch.Tensor) and id(value) not in self.hosts


@lru_cache(maxsize=8192)
def is_composite(operator: Any) -> bool:
    """Whether an operator is made of others alone, which are the ones that wait.

    Autograd takes such an operator apart before anybody looks; under ``torch.inference_mode`` there is no autograd.
    """
    name = operator.name()
    return bool(_has_kernel(name, "CompositeImplicitAutograd") and not _has_kernel(name, "CPU"))


class BackwardWatch(Watch):
    """Watches a backward pass, parts of which may run on the host.

    What an operator makes of a device tensor is one, and is marked as such: hooks and custom functions see it. A mask
    on the host by which the forward pass wrote or read is still there.
    """

    def _is_on_device(self, value: Any) -> bool:
        return super()._is_on_device(value) and id(value) not in self._device.host_masks

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not any(map(_is_on_device, args)):
            return func(*args, **kwargs)
        if is_custom(func) and way_of(func) is Way.PYTHON:
            return run_python(self._device, func, args, kwargs)
        with hidden():
            self.judge(func, args, kwargs)
            result = wrap(run_operator(self._device, func, args, kwargs))
        self._device.called(name_of(func), args, kwargs, result)
        return result


def _is_on_device(value: Any) -> bool:
    kind = type(value)
    return kind is SimulatedTensor or (kind in (list, tuple) and SimulatedTensor in map(type, value))


def is_watching() -> bool:
    """Whether this call is made from within a watched operator: by a hook or a custom function."""
    num_modes: int = _num_modes()
    return num_modes > 0 and isinstance(_mode_at(num_modes - 1), Watch)


@contextmanager
def unwatched() -> Iterator[None]:
    """Suspends watching for a call that will be judged by itself."""
    with _pop_mode():
        yield
