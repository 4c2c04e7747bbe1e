"""Decides how often an operator waits, from its name and, where ``rules.table`` gives no number, its arguments.

Used wherever operators are seen: on the simulated device, while a graph is recorded, and to name a wait on a GPU. Each
passes a predicate that tells which tensors live on the device, as each knows it in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from bagel_perf.records.sites import Kind
from bagel_perf.rules.table import RULES, quiet_operators

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
OnDevice = Callable[[Any], bool]
"""Whether a value is a tensor on the device."""
Judge = Callable[[Args, Kwargs, OnDevice], int | None]
"""How often a call waits; None where it is not known."""

MASK_DTYPES = (torch.bool, torch.uint8)
MAX_SMALL_MATRIX = 32
"""Rows and columns up to which CUDA's decompositions were seen to wait as the rules say."""
MAX_FUSED_MODE = 2048
"""Elements up to which ``mode`` is one kernel (ATen/native/cuda/TensorModeKernel.cpp)."""


def on_gpu(value: Any) -> bool:
    """Whether a value is a tensor on a CUDA device."""
    return isinstance(value, Tensor) and value.is_cuda


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one operator: always ``kinds``, or as often as ``judge`` says of its arguments; or not known."""

    kind: Kind = "unknown"
    times: int | None = None
    judge: Judge | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing is known of it."""
        return self.times is None and self.judge is None

    def waits(self, args: Args, kwargs: Kwargs, on_device: OnDevice) -> int | None:
        """How often a call with these arguments waits; None where that is not known."""
        return self.times if self.judge is None else self.judge(args, kwargs, on_device)


QUIET = Verdict(times=0)
OPEN = Verdict()


def _argument(args: Args, kwargs: Kwargs, place: int, name: str, default: Any = None) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def num_masks(indices: Sequence[Any], on_device: OnDevice) -> int:
    """How many of some indices are masks on the device: each is turned into row numbers by a ``nonzero`` of its own."""
    return sum(isinstance(index, Tensor) and index.dtype in MASK_DTYPES and on_device(index) for index in indices)


def _masks(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int:
    return num_masks(_argument(args, kwargs, 1, "indices", ()), on_device)


def _equal(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int:
    """Shapes are compared on the host, and a tensor with itself not at all."""
    one, other = args[0], _argument(args, kwargs, 1, "other")
    is_same = one.data_ptr() == other.data_ptr() and one.stride() == other.stride()
    return 0 if one.shape != other.shape or is_same or not one.numel() else 1


def _histc(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int:
    """Equal limits stand for the smallest and the largest element."""
    low, high = _argument(args, kwargs, 2, "min", 0), _argument(args, kwargs, 3, "max", 0)
    return 2 if low == high and args[0].numel() else 0


def _limits(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int:
    """Of ``linspace`` and ``logspace``."""
    return sum(map(on_device, (_argument(args, kwargs, 0, "start"), _argument(args, kwargs, 1, "end"))))


def _device_value(place: int) -> Judge:
    """CUDA's kernel takes the value as a host scalar."""
    return lambda args, kwargs, on_device: int(on_device(_argument(args, kwargs, place, "value")))


def _searchsorted(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int:
    sorter = kwargs.get("sorter")
    return 2 if sorter is not None and sorter.numel() else 0


def _segment_reduce(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int:
    return 2 if kwargs.get("lengths") is not None and not kwargs.get("unsafe") else 0


def _grouped_mm(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int:
    is_native = all(matrix.dtype is torch.bfloat16 for matrix in args[:2])
    return int(_argument(args, kwargs, 2, "offs") is not None and not is_native)


def _bincount(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int:
    return 2 if args[0].numel() else 0


def _isin(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int:
    """Few test elements are compared one by one, else all is sorted (ATen/native/TensorCompare.cpp)."""
    elements, tests = args[0], _argument(args, kwargs, 1, "test_elements")
    num_elements = elements.numel() if isinstance(elements, Tensor) else 1
    if not num_elements or tests.numel() < int(10.0 * num_elements**0.145):
        return 0
    return 1 if kwargs.get("assume_unique") else 3


def _repeat_interleave(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int:
    return 2 if kwargs.get("output_size") is None and args[0].numel() else 0


def _unique_consecutive(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int | None:
    return 1 if _argument(args, kwargs, 3, "dim") is None else None


def _is_small(matrix: Tensor) -> bool:
    return max(matrix.shape[-2:]) <= MAX_SMALL_MATRIX


def _svd(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int | None:
    if not args[0].numel():
        return 0
    return 2 if _is_small(args[0]) else None


def _pinv(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int | None:
    return None if kwargs.get("hermitian") else _svd(args, kwargs, on_device)


def _lu_factor(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int | None:
    matrix = args[0]
    return 0 if not matrix.numel() or matrix.shape[-1] == matrix.shape[-2] else None


def _where(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int:
    tensors = (args[0], _argument(args, kwargs, 1, "self"), _argument(args, kwargs, 2, "other"))
    return sum(isinstance(tensor, Tensor) and not on_device(tensor) for tensor in tensors)


def _cholesky(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int:
    return int(args[0].numel() > 0)


def _mode(args: Args, kwargs: Kwargs, on_device: OnDevice) -> int | None:
    tensor, dim = args[0], _argument(args, kwargs, 1, "dim", -1)
    return 0 if not tensor.dim() or tensor.shape[dim] <= MAX_FUSED_MODE else None


JUDGES: dict[str, Judge] = {
    "index": _masks,
    "index_put": _masks,
    "_index_put_impl_": _masks,
    "equal": _equal,
    "histc": _histc,
    **dict.fromkeys(
        [
            f"{name}.{over}"
            for name in ("linspace", "logspace")
            for over in ("Scalar_Tensor", "Tensor_Scalar", "Tensor_Tensor")
        ],
        _limits,
    ),
    "masked_fill.Tensor": _device_value(2),
    "index_fill.int_Tensor": _device_value(3),
    "searchsorted": _searchsorted,
    "segment_reduce": _segment_reduce,
    "_grouped_mm": _grouped_mm,
    "bincount": _bincount,
    "isin.Tensor_Tensor": _isin,
    "isin.Scalar_Tensor": _isin,
    "repeat_interleave.Tensor": _repeat_interleave,
    "unique_consecutive": _unique_consecutive,
    "_linalg_svd": _svd,
    "linalg_pinv.atol_rtol_tensor": _pinv,
    "linalg_lu": _lu_factor,
    "linalg_lu_factor_ex": _lu_factor,
    "cholesky": _cholesky,
    "where.self": _where,
    "mode": _mode,
}
"""How arguments decide, for each rule without a number."""

_ON_THE_CPU = {
    "_scaled_dot_product_flash_attention_for_cpu": "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_flash_attention_for_cpu_backward": "_scaled_dot_product_efficient_attention_backward",
    "mkldnn_rnn_layer": "_cudnn_rnn",
    "mkldnn_rnn_layer_backward": "_cudnn_rnn_backward",
}
"""Operators that the CPU has in the place of CUDA's, which are the ones that were measured."""


_ABOUT_SHAPES = ("is_same_size", "_has_same_storage_numel", "_new_zeros_with_same_feature_meta")
"""What forward-mode differentiation asks of two tensors: nothing of their values."""


@lru_cache(maxsize=8192)
def verdict_on(operator: Any) -> Verdict:
    """What is known about an operator without looking at its arguments."""
    namespace, name = operator._schema.name.split("::")
    if namespace in ("prim", "prims", "profiler"):
        return QUIET
    if namespace != "aten":
        return OPEN
    overload = operator._schema.overload_name or "default"
    found = _rule_for(name, overload)
    if found is not None:
        return found
    if operator.is_view or name in _ABOUT_SHAPES or is_quiet(name, overload):
        return QUIET
    if _wraps_number(operator) and (over := _with_tensors(name)):
        return _rule_for(name, over) or (QUIET if is_quiet(name, over) else OPEN)
    return OPEN


def _wraps_number(operator: Any) -> bool:
    """Whether an operator works element by element with a number in the place of a tensor, which it becomes."""
    takes_number = any(str(argument.type) in ("number", "Scalar") for argument in operator._schema.arguments[:2])
    return torch.Tag.pointwise in operator.tags and takes_number


def _with_tensors(name: str) -> str | None:
    """The overload of an operator that takes tensors alone."""
    found = getattr(torch.ops.aten, name).overloads()
    return next((overload for overload in ("Tensor", "default") if overload in found), None)


def waits_of_sparse(operator: Any, tensors: Iterable[Tensor]) -> int | None:
    """How often an operator waits that takes sparse tensors in coordinates; None where that was not measured."""
    sparse = [tensor for tensor in tensors if tensor.layout is not torch.strided]
    if any(tensor.layout is not torch.sparse_coo for tensor in sparse):
        return None
    name = operator._schema.name
    if name in ("aten::is_coalesced", "aten::_to_dense", "aten::_indices", "aten::_values", "aten::clone"):
        return 0
    # Of indices that are not in order a library waits, which puts them into order.
    return 0 if name == "aten::_sparse_addmm" and all(tensor.is_coalesced() for tensor in sparse) else None


def _rule_for(name: str, overload: str) -> Verdict | None:
    for base in dict.fromkeys((name, _base(name))):
        for known in (f"{base}.{overload}", base):
            if known in RULES:
                rule = RULES[known]
                return Verdict(rule.kind, rule.waits, JUDGES.get(known))
    return None


def _base(name: str) -> str:
    """The operator that gives a new tensor, of one that writes in place."""
    return name if name.startswith("__") or not name.endswith("_") else name[:-1]


def is_quiet(name: str, overload: str) -> bool:
    """Whether an operator, or one that differs from it in where the result is written alone, was seen never to wait."""
    name = _ON_THE_CPU.get(name, name)
    listed = quiet_operators()
    if overload in listed.get(name, ()):
        return True
    base = _base(name)
    if base != name and overload in listed.get(base, ()):
        return True
    return overload.endswith("out") and bool(listed.get(name) or listed.get(base))
