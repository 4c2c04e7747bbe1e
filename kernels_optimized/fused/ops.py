"""Chooses for each fused operation its kernel, or PyTorch's own operators where there is none.

There is none off CUDA, without Triton, and for widths that the kernels' order of summation does not cover.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import GroupNorm, LayerCache
from bagel_perf.subjects.bagel.model.decoder import RmsNorm
from kernels_optimized.fused import reference
from kernels_optimized.fused.rows import PackedRows


def add_norm(
    x_RD: Tensor, update_RD: Tensor | None, gen: RmsNorm, und: RmsNorm, num_gen: int, rows_R: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """See ``reference.add_norm``."""
    if not _has_kernels(x_RD) or x_RD.shape[-1] % 128:
        return reference.add_norm(x_RD, update_RD, gen, und, num_gen, rows_R)
    from kernels_optimized.fused.kernels import norm as norm_kernels

    return norm_kernels.add_norm(x_RD, update_RD, gen, und, num_gen, rows_R)


def norm_and_rotate(
    qkv_RHE: Tensor,
    query_norms: tuple[RmsNorm, RmsNorm],
    key_norms: tuple[RmsNorm, RmsNorm],
    rows: PackedRows,
    merged: LayerCache,
) -> Tensor:
    """See ``reference.norm_and_rotate``."""
    if not _has_kernels(qkv_RHE) or qkv_RHE.shape[-1] != 128:
        return reference.norm_and_rotate(qkv_RHE, query_norms, key_norms, rows, merged)
    from kernels_optimized.fused.kernels import rotate as rotate_kernels

    return rotate_kernels.norm_and_rotate(qkv_RHE, query_norms, key_norms, rows, merged)


def silu_mul(gate_up: Tensor) -> Tensor:
    """See ``reference.silu_mul``."""
    if not _has_kernels(gate_up):
        return reference.silu_mul(gate_up)
    from kernels_optimized.fused.kernels import silu as silu_kernels

    return silu_kernels.silu_mul(gate_up)


def norm_activate(x_1CHW: Tensor, norm: GroupNorm, *, activate: bool) -> Tensor:
    """See ``reference.norm_activate``; by a kernel rounded to bf16, as the convolution that takes it does."""
    if not _has_kernels(x_1CHW) or not _covers(x_1CHW, norm.num_groups):
        return reference.norm_activate(x_1CHW, norm, activate=activate)
    from kernels_optimized.fused.kernels import group_norm as group_norm_kernels

    return group_norm_kernels.norm_activate(x_1CHW, norm, activate=activate)


def _covers(x_1CHW: Tensor, num_groups: int) -> bool:
    """Whether the kernel takes a tensor: bf16, channels last, blocks and groups of whole powers of two.

    Each of the 512 threads of PyTorch's kernel has to have as many values of a group.
    """
    batch, num_channels, height, width = x_1CHW.shape
    width_of_group = num_channels // num_groups
    is_divided = num_channels % 64 == 0 and num_channels == width_of_group * num_groups
    num_values = width_of_group * height * width
    return (
        batch == 1
        and is_divided
        and width_of_group.bit_count() == 1
        and num_values > 0
        and num_values % 512 == 0
        and x_1CHW.dtype == torch.bfloat16
        and x_1CHW.is_contiguous(memory_format=torch.channels_last)
    )


def _has_kernels(x: Tensor) -> bool:
    return x.is_cuda and type(x) is Tensor and _kernels_agree(x.device)


@functools.cache
def _kernels_agree(device: torch.device) -> bool:
    """Whether the kernels give PyTorch's bits here; another version may sum otherwise. Waits, once a process."""
    if importlib.util.find_spec("triton") is None:
        return False
    from kernels_optimized.fused.kernels import group_norm as group_norm_kernels
    from kernels_optimized.fused.kernels import norm as norm_kernels
    from kernels_optimized.fused.kernels import rotate as rotate_kernels
    from kernels_optimized.fused.kernels import silu as silu_kernels

    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(2054, 3584, generator=generator, device=device).bfloat16()
    norm, heads = RmsNorm(weight=x[0], eps=1e-6), x.view(-1, 128)
    head_norm = RmsNorm(weight=x[0, :128], eps=1e-6)
    picture = x[:2048, :128].t().reshape(1, 128, 64, 32).contiguous(memory_format=torch.channels_last)
    group_norm = GroupNorm(weight=x[0, :128].float(), bias=x[1, :128].float(), num_groups=32, eps=1e-6)
    pairs = (
        (norm_kernels.add_norm(x, x, norm, norm, 2048), reference.add_norm(x, x, norm, norm, 2048)),
        (
            norm_kernels.add_norm(heads, None, head_norm, head_norm, 512),
            reference.add_norm(heads, None, head_norm, head_norm, 512),
        ),
        ((silu_kernels.silu_mul(x),), (reference.silu_mul(x),)),
        (
            (group_norm_kernels.norm_activate(picture, group_norm, activate=True),),
            (reference.norm_activate(picture, group_norm, activate=True).bfloat16(),),
        ),
        (_rotated(rotate_kernels.norm_and_rotate, x, head_norm), _rotated(reference.norm_and_rotate, x, head_norm)),
    )
    agree = all(torch.equal(a, b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True))
    if not agree:
        warnings.warn(
            f"torch {torch.__version__} rounds otherwise than the fused kernels; its own operators run", stacklevel=2
        )
    return agree


def _rotated(norm_and_rotate: Callable[..., Tensor], x: Tensor, norm: RmsNorm) -> tuple[Tensor, ...]:
    """Queries, keys and values of 28 heads in rows that all take places of their own."""
    heads = x.view(-1, 28, 128)
    num_rows = heads.shape[0]
    places = torch.arange(num_rows, device=x.device)
    merged = LayerCache(key_PKE=heads.new_zeros(num_rows, 4, 128), value_PKE=heads.new_zeros(num_rows, 4, 128))
    rows = PackedRows(
        num_gen=num_rows - 6,
        query_rows_R=places.flip(0),
        kv_rows_R=places,
        cos_T1E=heads[:, :1].cos(),
        sin_T1E=heads[:, :1].sin(),
        exact_R=places % 3 > 0,
    )
    q_THE = norm_and_rotate(heads, (norm, norm), (norm, norm), rows, merged)
    return q_THE, merged.key_PKE, merged.value_PKE
