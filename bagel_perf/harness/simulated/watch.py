"""Looks into a call: sees each operator it is made of, the scalars that torch's argument parser reads included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode_temporarily

from bagel_perf.harness.simulated.lacking import run_operator
from bagel_perf.harness.simulated.tensor import SimulatedTensor, hidden, wrap
from bagel_perf.harness.simulated.verdicts import verdict_on
from bagel_perf.schema.waits import Kind

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice

_num_modes: Any = torch._C._len_torch_dispatch_stack
_mode_at: Any = torch._C._get_dispatch_stack_at


class Watch(TorchDispatchMode):
    """Reports the waits of the operators that run in its context, all of whose tensors live on the device.

    ``reads`` is the kind under which scalar reads are reported.
    """

    def __init__(self, device: SimulatedDevice, *, reads: Kind = "scalar_read") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self._reads = reads

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self.judge(func, args, kwargs)
        return run_operator(self._device, func, args, kwargs)

    def judge(self, operator: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Reports the waits of one operator."""
        if operator._schema.name == "aten::_local_scalar_dense":
            self._device.waits(self._reads)
        else:
            verdict = verdict_on(operator)
            kinds = verdict.kinds if verdict.judge is None else verdict.judge(args, kwargs)
            if kinds is None or not verdict.is_sure or _is_of_unknown_layout(args):
                self._device.cannot_judge(str(operator))
            else:
                for kind in kinds:
                    self._device.waits(kind)


class BackwardWatch(Watch):
    """Watches a backward pass, parts of which may run on the host.

    What an operator makes of a device tensor is one, and is marked as such: hooks and custom functions see it.
    """

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not any(map(_is_on_device, args)):
            return func(*args, **kwargs)
        with hidden():
            self.judge(func, args, kwargs)
            return wrap(run_operator(self._device, func, args, kwargs))


def _is_on_device(value: Any) -> bool:
    kind = type(value)
    return kind is SimulatedTensor or (kind in (list, tuple) and SimulatedTensor in map(type, value))


def _is_of_unknown_layout(args: tuple[Any, ...]) -> bool:
    """What is known of operators was measured on strided tensors."""
    first = args[0] if args else None
    return isinstance(first, torch.Tensor) and (first.layout is not torch.strided or first.is_nested)


def is_watching() -> bool:
    """Whether this call is made from within a watched operator: by a hook or a custom function."""
    num_modes: int = _num_modes()
    return num_modes > 0 and isinstance(_mode_at(num_modes - 1), Watch)


@contextmanager
def unwatched() -> Iterator[None]:
    """Suspends watching for a call that will be judged by itself."""
    with _pop_mode_temporarily():
        yield
