"""Which aten operators make the host wait on CUDA, how often and for what.

``MEASURED`` and the judges were measured on an NVIDIA H100 with torch 2.11.0+cu130 (tests/harness/sync_catalogue.json).
An operator that torch tags as data-dependent and that is not among them is named as unjudged, as are those listed in
``UNJUDGED``. All others do not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from bagel_perf.harness.simulated.tensor import SimulatedTensor
from bagel_perf.schema.waits import Kind

Judge = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Kind, ...] | None]
MASK_DTYPES = (torch.bool, torch.uint8)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one operator waits: always the same, or as ``judge`` says of its arguments; unless it is not known."""

    kinds: tuple[Kind, ...] = ()
    judge: Judge | None = None
    is_sure: bool = True


QUIET = Verdict()
UNSURE = Verdict(is_sure=False)

MEASURED: dict[str, tuple[Kind, ...]] = {
    "_local_scalar_dense": ("scalar_read",),
    "allclose": ("scalar_read",),
    "nonzero": ("nonzero",),
    "argwhere": ("nonzero",),
    "_unique2": ("nonzero",),
    "_to_sparse": ("nonzero",),
    "masked_select": ("mask_gather",),
    "normal.Tensor_Tensor": ("scalar_read",) * 2,
    "normal.float_Tensor": ("scalar_read",) * 2,
    "linspace.Scalar_Tensor": ("scalar_read",),
    "_linalg_check_errors": ("unknown",),
    "_linalg_svd": ("unknown",) * 2,
    "linalg_lstsq": ("unknown",),
    "linalg_pinv.atol_rtol_tensor": ("unknown",) * 2,
}

_LOOKED_AT = """
_embedding_bag _embedding_bag_forward_only multinomial masked_scatter masked_scatter_ linalg_qr _linalg_det
_linalg_slogdet linalg_lu linalg_lu_factor_ex linalg_inv_ex linalg_cholesky_ex _linalg_solve_ex
"""
_UNJUDGED = """
unique_dim unique_dim_consecutive _linalg_eigh linalg_eig linalg_eigvals linalg_ldl_ _linalg_eigvals linalg_matrix_exp
_ctc_loss coalesce _coalesce lstm gru rnn_tanh rnn_relu mkldnn_rnn_layer cholesky lu_solve geqrf ormqr orgqr lobpcg
linalg_householder_product linalg_tensorsolve linalg_lu_solve _nested_ to_padded_tensor
"""
QUIET_OPERATORS = frozenset(_LOOKED_AT.split())
"""Looked at and found not to wait, in spite of what their tag or family suggests."""
UNJUDGED = tuple(_UNJUDGED.split())
"""Beginnings of names: a library waits inside (the witnesses disagree), values decide, or nobody measured."""

_SIZED = """
new_ zeros ones empty full rand arange linspace view reshape expand repeat narrow split chunk tile unflatten resize
as_strided index_select select
"""
_READS_SIZES = tuple(_SIZED.split())
_READS_VALUES = ("full", "new_full", "full_like")


def takes_sizes(name: str) -> bool:
    """Whether a device scalar that a function of this name reads is a size."""
    return name.startswith(_READS_SIZES) and name not in _READS_VALUES


def num_masks(indices: Sequence[Any]) -> int:
    """How many of some indices are masks: each is turned into row numbers by a ``nonzero`` of its own."""
    return sum(isinstance(index, Tensor) and index.dtype in MASK_DTYPES for index in indices)


def _index(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Kind, ...]:
    kinds: tuple[Kind, ...] = ("mask_gather",)
    return kinds * num_masks(args[1])


def _index_put(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Kind, ...]:
    kinds: tuple[Kind, ...] = ("mask_scatter",)
    return kinds * num_masks(args[1])


def _equal(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Kind, ...]:
    """Shapes are compared on the host, and a tensor with itself not at all."""
    one, other = args
    is_same = one.data_ptr() == other.data_ptr() and one.stride() == other.stride()
    return () if one.shape != other.shape or is_same or not one.numel() else ("scalar_read",)


def _histc(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Kind, ...]:
    """Equal limits stand for the smallest and the largest element."""
    low, high = (args[place] if len(args) > place else kwargs.get(name, 0) for place, name in ((2, "min"), (3, "max")))
    return ("scalar_read",) * 2 if low == high else ()


def _bincount(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Kind, ...]:
    return ("nonzero",) * 2 if args[0].numel() else ()


def _unique_consecutive(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Kind, ...] | None:
    """Along a dimension thrust waits inside."""
    dim = args[3] if len(args) > 3 else kwargs.get("dim")
    return ("nonzero",) if dim is None else None


def _repeat_interleave(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Kind, ...]:
    return ("nonzero",) * 2 if kwargs.get("output_size") is None else ()


def _segment_reduce(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Kind, ...] | None:
    has_lengths = kwargs.get("lengths") is not None and not kwargs.get("unsafe")
    return ("scalar_read",) * 2 if has_lengths else None


def _index_fill(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Kind, ...]:
    """CUDA's kernel takes the value as a host scalar."""
    return ("scalar_read",) if type(args[3]) is SimulatedTensor else ()


JUDGES: dict[str, Judge] = {
    "index": _index,
    "index_put": _index_put,
    "index_put_": _index_put,
    "_index_put_impl_": _index_put,
    "equal": _equal,
    "histc": _histc,
    "bincount": _bincount,
    "unique_consecutive": _unique_consecutive,
    "repeat_interleave.Tensor": _repeat_interleave,
    "segment_reduce": _segment_reduce,
    "index_fill.int_Tensor": _index_fill,
    "index_fill_.int_Tensor": _index_fill,
}


@lru_cache(maxsize=4096)
def verdict_on(operator: Any) -> Verdict:
    """What is known about an operator without looking at its arguments."""
    if not operator._schema.name.startswith(("aten::", "prim::", "prims::", "profiler::")):
        return UNSURE
    name = operator._schema.name.split("::")[1]
    for known in (f"{name}.{operator._schema.overload_name}", name):
        if known in MEASURED:
            return Verdict(MEASURED[known])
        if known in JUDGES:
            return Verdict(judge=JUDGES[known])
        if known in QUIET_OPERATORS:
            return QUIET
    tags = operator.tags
    is_dependent = torch.Tag.dynamic_output_shape in tags or torch.Tag.data_dependent_output in tags
    return UNSURE if is_dependent or name.startswith(UNJUDGED) else QUIET


@lru_cache(maxsize=4096)
def accepts_host_scalars(name: str) -> bool:
    """Whether operators of this name work element by element, and so take 0-d host tensors beside device tensors."""
    if name in ("narrow", "select", "index_fill", "index_fill_", "fill_"):
        return True
    packet = getattr(torch.ops.aten, name.strip("_"), None) or getattr(torch.ops.aten, name, None)
    if packet is None:
        return False
    return any(torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads())
