"""Which aten operators make the host wait on CUDA.

Operators that torch tags as data-dependent wait; those of them that were measured are trusted, the others are counted
once and named as unjudged. Without a tag an operator does not wait, except those listed here, whose CUDA kernels read
the device inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from bagel_perf.schema.waits import Kind

MASK_DTYPES = (torch.bool, torch.uint8)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one call of an operator waits; ``is_sure`` is False where the number was not measured."""

    kind: Kind | None
    is_sure: bool = True


QUIET = Verdict(None)

MEASURED: dict[str, Kind] = {
    "aten::_local_scalar_dense": "scalar_read",
    "aten::equal": "scalar_read",
    "aten::allclose": "scalar_read",
    "aten::nonzero": "nonzero",
    "aten::argwhere": "nonzero",
    "aten::_unique2": "nonzero",
    "aten::masked_select": "mask_gather",
}

JUDGED_BY_INDICES: dict[str, Kind] = {
    "aten::index": "mask_gather",
    "aten::index_put": "mask_scatter",
    "aten::index_put_": "mask_scatter",
    "aten::_index_put_impl_": "mask_scatter",
}

_UNTAGGED = """
multinomial histc normal.Tensor_Tensor normal.float_Tensor segment_reduce _embedding_bag to_sparse _to_sparse _cudnn_rnn
_linalg_ linalg_cholesky linalg_inv linalg_eig linalg_lu linalg_qr linalg_ldl linalg_lstsq cholesky lu_
"""
UNTAGGED_WAITS = tuple(_UNTAGGED.split())
"""Beginnings of names of aten operators."""

_SIZED = """
new_ zeros ones empty full rand arange linspace view reshape expand repeat narrow split chunk tile unflatten resize
as_strided index_select select
"""
READS_SIZES = tuple(_SIZED.split())
"""Beginnings of names of functions that take sizes: a device scalar they read is one."""


@lru_cache(maxsize=4096)
def verdict_on(operator: torch._ops.OpOverload) -> Verdict:
    """What is known about an operator without looking at its arguments."""
    name = operator._schema.name
    if not name.startswith(("aten::", "prim::", "prims::", "profiler::")):
        return Verdict(None, is_sure=False)
    if name in MEASURED:
        return Verdict(MEASURED[name])
    if str(operator).removeprefix("aten.").startswith(UNTAGGED_WAITS):
        return Verdict("unknown", is_sure=False)
    tags = operator.tags
    if torch.Tag.dynamic_output_shape in tags or torch.Tag.data_dependent_output in tags:
        return Verdict("nonzero" if torch.Tag.dynamic_output_shape in tags else "scalar_read", is_sure=False)
    return QUIET


def num_masks(indices: Sequence[Any]) -> int:
    """How many of some indices are masks: each is turned into row numbers by a ``nonzero`` of its own."""
    return sum(isinstance(index, torch.Tensor) and index.dtype in MASK_DTYPES for index in indices)


@lru_cache(maxsize=4096)
def accepts_host_scalars(name: str) -> bool:
    """Whether operators of this name work element by element, and so take 0-d host tensors beside device tensors."""
    packet = getattr(torch.ops.aten, name.strip("_"), None) or getattr(torch.ops.aten, name, None)
    if packet is None:
        return False
    return any(torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads())
