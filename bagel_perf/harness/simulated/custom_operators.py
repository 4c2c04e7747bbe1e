"""Operators that a program or a package registered: their Python kernels run as ordinary Python on the device.

Which kernel runs is decided as for CUDA tensors: one registered for CUDA, else one for every device. Each torch call in
a Python kernel is judged by itself, so the operator needs no verdict of its own. A kernel written in C++ shows nothing
of what it does: its CPU twin runs, and the operator is named as unjudged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket
from torch.utils._pytree import tree_leaves

from bagel_perf.harness.simulated.refusals import NotSimulated
from bagel_perf.harness.simulated.tensor import SimulatedTensor

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice

TORCHS_OWN = ("aten::", "prim::", "prims::", "profiler::")
"""Namespaces whose operators have verdicts."""

_KERNEL = re.compile(r"^(\w+)(?:\[alias\])?: registered at (.*):\d+ ::", re.MULTILINE)
_KEYS = ("CUDA", "CompositeExplicitAutogradNonFunctional", "CompositeExplicitAutograd", "CompositeImplicitAutograd")
"""Where torch looks for the kernel of a CUDA tensor, in this order."""
_NATIVE = (".cpp", ".cc", ".cxx", ".c", ".cu", ".cuh", ".h", ".hpp", ".inl")

_FALLTHROUGH = re.compile(r"^(\w+): fallthrough", re.MULTILINE)

_key: Any = torch._C.DispatchKey
_key_set: Any = torch._C.DispatchKeySet
_CPU, _CUDA, _META = (_key_set(key).raw_repr() for key in (_key.CPU, _key.CUDA, _key.Meta))
_DENSE = _CPU & _CUDA
_BACKENDS = (_META & ~_DENSE) * 2 - 1
"""The bits for backends, of which Meta's is the last."""
_AUTOCAST_CPU, _AUTOCAST_CUDA = _key_set(_key.AutocastCPU).raw_repr(), _key_set(_key.AutocastCUDA).raw_repr()


class Way(Enum):
    """How an operator runs: its own Python is looked into, parts of it are watched, its CPU kernel runs unseen."""

    PYTHON = "python"
    PARTS = "parts"
    UNSEEN = "unseen"
    ABSENT = "absent"


def is_custom(func: Any) -> bool:
    """Whether an operator is none of torch's own."""
    if isinstance(func, OpOverload):
        return not func._schema.name.startswith(TORCHS_OWN)
    return isinstance(func, OpOverloadPacket) and not func._qualified_op_name.startswith(TORCHS_OWN)


def way_of(operator: OpOverload) -> Way:
    """How an operator runs on the device; its kernels may change while the program runs."""
    return _way_of(torch._C._dispatch_dump(operator.name()))


@lru_cache(maxsize=1024)
def _way_of(registrations: str) -> Way:
    files = dict(_KERNEL.findall(registrations))
    key = next((key for key in _KEYS if key in files), None)
    is_native = {key: PurePath(file).suffix in _NATIVE for key, file in files.items()}
    if key is None:
        return (
            Way.UNSEEN if is_native.get("CPU") else Way.PYTHON
        )  # Python for the CPU alone: torch says what is missing
    if not is_native[key]:
        return Way.PYTHON
    if key == "CompositeImplicitAutograd":
        return Way.PARTS
    return Way.ABSENT if key == "CUDA" and "CPU" not in files else Way.UNSEEN


def run_custom(device: SimulatedDevice, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """Runs a custom operator; a handler of ``calls``."""
    from bagel_perf.harness.simulated.calls import watched

    operator = _overload_of(func, args, kwargs)
    way = way_of(operator)
    if way is Way.PYTHON:
        return run_python(device, operator, args, kwargs)
    if way is Way.ABSENT and _are_on_device(args, kwargs):
        raise NotSimulated(f"the operator {operator.name()}", "its one kernel for CUDA is not written in Python")
    return watched(device, func, types, args, kwargs)


def run_python(device: SimulatedDevice, operator: OpOverload, args: Any, kwargs: Any) -> Any:
    """Runs an operator whose kernel is Python; every torch call in it comes to the device."""
    keys = _keys_of(operator, args, kwargs) if _are_on_device(args, kwargs) else None
    with _seen(device):
        if keys is None:
            return torch._C._dispatch_call_boxed(operator._handle, *args, **kwargs)
        return operator.redispatch(keys, *args, **kwargs)


@contextmanager
def _seen(device: SimulatedDevice) -> Iterator[None]:
    with torch._C._EnableTorchFunction(), device.intercepting():
        yield


def _are_on_device(args: Any, kwargs: Any) -> bool:
    return SimulatedTensor in map(type, tree_leaves((args, kwargs)))


def _overload_of(func: Any, args: Any, kwargs: Any) -> OpOverload:
    """The overload that torch would choose of a packet."""
    if isinstance(func, OpOverload):
        return func
    names = func.overloads()
    name = names[0] if len(names) == 1 else torch._C._jit_resolve_packet(func._qualified_op_name, *args, **kwargs)
    chosen: OpOverload = getattr(func, name or "default")
    return chosen


def _keys_of(operator: OpOverload, args: Any, kwargs: Any) -> Any:
    """The dispatch keys of a call with these arguments, were the device's among them CUDA tensors."""
    of_tensors = 0
    for value in tree_leaves((args, kwargs)):
        if isinstance(value, Tensor):
            keys = torch._C._dispatch_keys(value).raw_repr()
            of_tensors |= _as_cuda(keys) if type(value) is SimulatedTensor else keys
    included = torch._C._dispatch_tls_local_include_set().raw_repr()
    excluded = torch._C._dispatch_tls_local_exclude_set().raw_repr() & ~_BACKENDS
    skipped = _fallthrough(torch._C._dispatch_dump_table(operator.name()))
    return _key_set.from_raw_repr((of_tensors | included) & ~excluded & ~skipped)


def _as_cuda(keys: int) -> int:
    cuda: int = keys & ~(_CPU & ~_DENSE) | (_CUDA & ~_DENSE)
    return cuda & ~_AUTOCAST_CPU | _AUTOCAST_CUDA if keys & _AUTOCAST_CPU else cuda


@lru_cache(maxsize=1024)
def _fallthrough(table: str) -> int:
    """The bits of the keys at which an operator has nothing to run: torch skips them, but not in a redispatch."""
    skipped = 0
    for name in _FALLTHROUGH.findall(table):
        key = _key.__members__.get(name)
        bits = 0 if key is None else _key_set(key).raw_repr()
        if bits & _BACKENDS in (0, _CUDA & ~_DENSE):
            skipped |= bits & ~_BACKENDS
    return skipped
