"""Hears each call of torch in an entry: on the simulated device from it, on CUDA by a mode that sees operators."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bagel_perf.records.runs import SyncDevice
from bagel_perf.rules import torch_names
from bagel_perf.rules.calls import staged_copy
from bagel_perf.rules.operators import Args, Kwargs, on_gpu
from bagel_perf.simulated import SimulatedDevice
from bagel_perf.simulated.calls import name_of
from bagel_perf.simulated.streams import current_stream
from bagel_perf.simulated.tensor import is_simulated
from bagel_perf.syncs.capture_calls import OnDevice, leaves

Told = Callable[[str, Args, Kwargs, Any], None]
"""Called with the name of a function or operator, its arguments, and what it gave."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where calls are heard; ``looking`` is open in each entry, ``listening`` in the whole watch."""

    name: SyncDevice
    device: torch.device
    simulated: SimulatedDevice | None
    on_device: OnDevice
    current_stream: Callable[[], Any]
    looking: Callable[[Told], AbstractContextManager[None]]
    listening: Callable[[Told], AbstractContextManager[None]]


def hearing_simulated(simulated: SimulatedDevice) -> Source:
    """Hears the calls that the simulated device runs."""
    return Source("simulated", simulated.device, simulated, is_simulated, current_stream, _nowhere, simulated.calls_to)


def hearing_cuda(device: torch.device) -> Source:
    """Hears the operators of a thread, its backward passes included."""
    return Source("cuda", device, None, on_gpu, torch.cuda.current_stream, _Modes().looking, _nowhere)


def _nowhere(told: Told) -> AbstractContextManager[None]:
    return nullcontext()


class _Modes(threading.local):
    """One mode a thread: of entries of generators that take turns, each would hear the operators of the other."""

    def __init__(self) -> None:
        self._num_inside = 0

    @contextmanager
    def looking(self, told: Told) -> Iterator[None]:
        thread, mode = threading.get_ident(), _EveryOperator(told)
        self._num_inside += 1
        if self._num_inside == 1:
            mode.__enter__()
        try:
            yield
        finally:
            if threading.get_ident() == thread:  # a generator may end in another one
                self._num_inside -= 1
                if not self._num_inside:
                    mode.__exit__(None, None, None)


class _EveryOperator(torch_names.OperatorMode):
    def __init__(self, told: Told) -> None:
        super().__init__()
        self._told = told

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not torch.compiler.is_compiling():  # what is traced does not run
            self._told(name_of(func), args, kwargs or {}, result)
        return result


class Crossing(NamedTuple):
    """An asynchronous copy between host and device; ``hazard`` says that the driver stages it, which no capture has."""

    is_upload: bool
    hazard: str | None


def crossing(name: str, args: Args, kwargs: Kwargs, result: Any) -> Crossing | None:
    """The asynchronous copy that an operator of CUDA is."""
    if name not in ("copy_", "_to_copy"):
        return None
    source, target = (args[1], args[0]) if name == "copy_" else (args[0], result)
    is_async = args[2] if len(args) > 2 else kwargs.get("non_blocking")
    if not is_async or source.is_cuda == target.is_cuda or not source.numel():
        return None
    return Crossing(target.is_cuda, staged_copy(name, args, kwargs, on_gpu, Tensor.is_pinned))


def host_tensors(values: Iterable[Any], on_device: OnDevice) -> Iterator[Tensor]:
    """Yields the tensors among some values that are not on the device."""
    return (value for value in leaves(values) if isinstance(value, Tensor) and not on_device(value))
