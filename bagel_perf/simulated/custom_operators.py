"""Operators that a program or a package registered: their Python kernels run as ordinary Python on the device.

Which kernel runs is decided as for CUDA tensors: one registered for CUDA, else one for every device. Each torch call in
a Python kernel is judged by itself, so the operator needs no verdict of its own. A kernel written in C++ shows nothing
of what it does: its CPU twin runs, and the operator is named as unjudged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cache, lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bagel_perf.rules import torch_inner_names, torch_names
from bagel_perf.simulated.patches import NotSimulated
from bagel_perf.simulated.tensor import SimulatedTensor

if TYPE_CHECKING:
    from bagel_perf.simulated.device import SimulatedDevice

TORCHS_OWN = ("aten::", "prim::", "prims::", "profiler::")
"""Namespaces whose operators have verdicts."""

_KERNEL = re.compile(r"^(\w+)(?:\[alias\])?: registered at (.*):\d+ ::", re.MULTILINE)
_KEYS = ("CUDA", "CompositeExplicitAutogradNonFunctional", "CompositeExplicitAutograd", "CompositeImplicitAutograd")
"""Where torch looks for the kernel of a CUDA tensor, in this order."""
_NATIVE = (".cpp", ".cc", ".cxx", ".c", ".cu", ".cuh", ".h", ".hpp", ".inl")

_FALLTHROUGH = re.compile(r"^(\w+): fallthrough", re.MULTILINE)

_Operator: Any = torch_names.OPERATOR.find()
_Packet: Any = torch_names.OPERATOR_PACKET.find()
_enabled: Any = torch_names.ENABLE_TORCH_FUNCTION.find()
_kernels_of: Any = torch_inner_names.OPERATOR_KERNELS.find()
_table_of: Any = torch_inner_names.OPERATOR_TABLE.find()
_call: Any = torch_inner_names.CALL_OPERATOR.find()
_resolve: Any = torch_inner_names.RESOLVE_PACKET.find()
_leaves: Any = torch_inner_names.TREE_LEAVES.find()
_keys_of_tensor: Any = torch_inner_names.KEYS_OF_TENSOR.find()
_included: Any = torch_inner_names.INCLUDED_KEYS.find()
_excluded: Any = torch_inner_names.EXCLUDED_KEYS.find()
_is_batched: Any = torch_inner_names.IS_BATCHED.find()
_key: Any = torch_inner_names.DISPATCH_KEY.find()
_key_set: Any = torch_inner_names.DISPATCH_KEYS.find()
_NEEDED = (_key, _key_set, _call, _resolve, _keys_of_tensor, _included, _excluded)


@dataclass(frozen=True, slots=True)
class _Bits:
    """Bits of sets of dispatch keys; those of ``backends`` end with Meta's."""

    cpu: int
    cuda: int
    backends: int
    autocast_cpu: int
    autocast_cuda: int


@cache
def _bits() -> _Bits:
    cpu, cuda, meta = map(_bits_of, ("CPU", "CUDA", "Meta"))
    dense = cpu & cuda
    return _Bits(
        cpu=cpu & ~dense,
        cuda=cuda & ~dense,
        backends=(meta & ~dense) * 2 - 1,
        autocast_cpu=_bits_of("AutocastCPU"),
        autocast_cuda=_bits_of("AutocastCUDA"),
    )


def _bits_of(name: str) -> int:
    """The bits of a dispatch key; none where Python does not know it."""
    key = _key.__members__.get(name)
    bits: int = 0 if key is None else _key_set(key).raw_repr()
    return bits


class Way(Enum):
    """How an operator runs: its own Python is looked into, parts of it are watched, its CPU kernel runs unseen."""

    PYTHON = "python"
    PARTS = "parts"
    UNSEEN = "unseen"
    ABSENT = "absent"


def is_custom(func: Any) -> bool:
    """Whether an operator is none of torch's own."""
    if isinstance(func, _Operator):
        return not func._schema.name.startswith(TORCHS_OWN)
    return isinstance(func, _Packet) and not func._qualified_op_name.startswith(TORCHS_OWN)


def way_of(operator: Any) -> Way:
    """How an operator runs on the device; its kernels may change while the program runs."""
    return Way.UNSEEN if None in _NEEDED else _way_of(_kernels_of(operator.name()))


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
    from bagel_perf.simulated.calls import watched

    operator = _overload_of(func, args, kwargs)
    way = way_of(operator)
    if way is Way.PYTHON:
        return run_python(device, operator, args, kwargs)
    if way is Way.ABSENT and _are_on_device(args, kwargs):
        raise NotSimulated(f"the operator {operator.name()}", "its one kernel for CUDA is not written in Python")
    return watched(device, func, types, args, kwargs)


def run_python(device: SimulatedDevice, operator: Any, args: Any, kwargs: Any) -> Any:
    """Runs an operator whose kernel is Python; every torch call in it comes to the device."""
    keys = _keys_of(operator, args, kwargs) if _are_on_device(args, kwargs) else None
    if keys is not None and _lacks_rule(operator, args, kwargs):
        raise NotSimulated(f"torch.vmap of the operator {operator.name()}", "give it a rule: register_vmap")
    with _seen(device):
        if keys is None:
            return _call(operator._handle, *args, **kwargs)
        return operator.redispatch(keys, *args, **kwargs)


@contextmanager
def _seen(device: SimulatedDevice) -> Iterator[None]:
    with _enabled(), device.intercepting():
        yield


def _are_on_device(args: Any, kwargs: Any) -> bool:
    return SimulatedTensor in map(type, _leaves((args, kwargs)))


def _lacks_rule(operator: Any, args: Any, kwargs: Any) -> bool:
    """Whether ``torch.vmap`` would call a kernel for each sample: in C++, which gives it host tensors."""
    is_batched = any(isinstance(value, Tensor) and _is_batched(value) for value in _leaves((args, kwargs)))
    return is_batched and "FuncTorchBatched:" not in _kernels_of(operator.name())


def _overload_of(func: Any, args: Any, kwargs: Any) -> Any:
    """The overload that torch would choose of a packet."""
    if isinstance(func, _Operator):
        return func
    names = func.overloads()
    name = names[0] if len(names) == 1 else _resolve(func._qualified_op_name, *args, **kwargs)
    return getattr(func, name or "default")


def _keys_of(operator: Any, args: Any, kwargs: Any) -> Any:
    """The dispatch keys of a call with these arguments, were the device's among them CUDA tensors."""
    of_tensors = 0
    for value in _leaves((args, kwargs)):
        if isinstance(value, Tensor):
            keys = _keys_of_tensor(value).raw_repr()
            of_tensors |= _as_cuda(keys) if type(value) is SimulatedTensor else keys
    included = _included().raw_repr()
    excluded = _excluded().raw_repr() & ~_bits().backends
    skipped = _fallthrough(_table_of(operator.name()))
    return _key_set.from_raw_repr((of_tensors | included) & ~excluded & ~skipped)


def _as_cuda(keys: int) -> int:
    bits = _bits()
    cuda = keys & ~bits.cpu | bits.cuda
    return cuda & ~bits.autocast_cpu | bits.autocast_cuda if keys & bits.autocast_cpu else cuda


@lru_cache(maxsize=1024)
def _fallthrough(table: str) -> int:
    """The bits of the keys at which an operator has nothing to run: torch skips them, but not in a redispatch."""
    skipped, known = 0, _bits()
    for bits in map(_bits_of, _FALLTHROUGH.findall(table)):
        if bits & known.backends in (0, known.cuda):
            skipped |= bits & ~known.backends
    return skipped
