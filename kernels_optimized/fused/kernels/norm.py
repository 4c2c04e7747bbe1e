"""Residual sum and RMSNorm in one kernel, its mean summed in the order of PyTorch's reduction.

For a row of D values PyTorch (aten/src/ATen/native/cuda/Reduce.cuh, 2.11) gives each of W threads four neighbouring
values, then four more after those of all threads, and so on, which it adds to four sums; a thread adds these one after
another, then the upper half of the threads add theirs to the lower half, until one is left. W depends on the number of
rows, so each weight set has its own.

Suffixes: R packed rows, D model width.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from bagel_perf.subjects.bagel.model.decoder import RmsNorm

MAX_THREADS = 512
WARP = 32
BLOCK = 4096
NUM_WARPS = 1


def threads_of_mean(num_values: int, num_rows: int) -> int:
    """Threads that PyTorch's mean over the last dimension of fp32 [num_rows, num_values] gives a row."""
    values, rows = (1 << max(number, 1).bit_length() - 1 for number in (num_values, num_rows))
    height = min(rows, MAX_THREADS // min(values, WARP))
    return min(values, MAX_THREADS // height)


@triton.jit
def sum_of_threads(acc, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """What all threads of a row have in all, fp32 [ROWS, WIDTH, 4] -> [ROWS].

    Triton's own sum has an order of its own, except of two values, which it is left with here.
    """
    even, odd = tl.split(tl.reshape(acc, (ROWS, WIDTH, 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    total = ((first + second) + third) + fourth
    if WIDTH > 256:
        total = tl.sum(tl.reshape(total, (ROWS, 2, 256)), 1)
    if WIDTH > 128:
        total = tl.sum(tl.reshape(total, (ROWS, 2, 128)), 1)
    if WIDTH > 64:
        total = tl.sum(tl.reshape(total, (ROWS, 2, 64)), 1)
    if WIDTH > 32:
        total = tl.sum(tl.reshape(total, (ROWS, 2, 32)), 1)
    total = tl.sum(tl.reshape(total, (ROWS, 2, 16)), 1)
    total = tl.sum(tl.reshape(total, (ROWS, 2, 8)), 1)
    total = tl.sum(tl.reshape(total, (ROWS, 2, 4)), 1)
    total = tl.sum(tl.reshape(total, (ROWS, 2, 2)), 1)
    return tl.sum(total, 1)


@triton.jit
def _summed(x_ptr, update_ptr, columns, mask, HAS_UPDATE: tl.constexpr):
    x = tl.load(x_ptr + columns, mask=mask, other=0.0)
    if HAS_UPDATE:
        update = tl.load(update_ptr + columns, mask=mask, other=0.0)
        x = (x.to(tl.float32) + update.to(tl.float32)).to(tl.bfloat16)
    return x


@triton.jit
def _add_norm_row(
    x_ptr,
    update_ptr,
    sum_ptr,
    weight_ptr,
    normed_ptr,
    eps,
    factor,
    D: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_UPDATE: tl.constexpr,
):
    lanes = tl.arange(0, WIDTH)[:, None] * 4 + tl.arange(0, 4)[None, :]
    acc = tl.zeros((WIDTH, 4), tl.float32)
    for start in tl.static_range(0, D, 4 * WIDTH):  # stores nothing, so that all loads are under way at once
        columns = start + lanes
        x = _summed(x_ptr, update_ptr, columns, columns < D, HAS_UPDATE).to(tl.float32)
        acc = acc + x * x
    scale = tl.rsqrt(sum_of_threads(acc[None, :, :], 1, WIDTH) * factor + eps)
    lanes = tl.arange(0, BLOCK)
    for start in tl.static_range(0, D, BLOCK):
        columns = start + lanes
        mask = columns < D
        x = _summed(x_ptr, update_ptr, columns, mask, HAS_UPDATE)
        if HAS_UPDATE:
            tl.store(sum_ptr + columns, x, mask=mask)
        weight = tl.load(weight_ptr + columns, mask=mask, other=0.0).to(tl.float32)
        normed = (x.to(tl.float32) * scale).to(tl.bfloat16).to(tl.float32)
        tl.store(normed_ptr + columns, (weight * normed).to(tl.bfloat16), mask=mask)


@triton.jit
def _add_norm(
    x_ptr,
    update_ptr,
    sum_ptr,
    gen_ptr,
    und_ptr,
    normed_ptr,
    rows_ptr,
    num_gen,
    eps,
    factor,
    D: tl.constexpr,
    GEN_WIDTH: tl.constexpr,
    UND_WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_UPDATE: tl.constexpr,
    HAS_ROWS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    target = row
    if HAS_ROWS:
        target = tl.load(rows_ptr + row)
    x, update, total, normed = (x_ptr + row * D, update_ptr + row * D, sum_ptr + row * D, normed_ptr + target * D)
    if row < num_gen:
        _add_norm_row(x, update, total, gen_ptr, normed, eps, factor, D, GEN_WIDTH, BLOCK, HAS_UPDATE)
    else:
        _add_norm_row(x, update, total, und_ptr, normed, eps, factor, D, UND_WIDTH, BLOCK, HAS_UPDATE)


def add_norm(
    x_RD: Tensor, update_RD: Tensor | None, gen: RmsNorm, und: RmsNorm, num_gen: int, rows_R: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As ``reference.add_norm``, bit for bit, for contiguous bf16 rows."""
    assert gen.eps == und.eps, "the kernel takes one epsilon"
    num_rows, width = x_RD.shape
    total_RD = x_RD if update_RD is None else torch.empty_like(x_RD)
    normed_RD = torch.empty_like(x_RD)
    kernel: Any = _add_norm[(num_rows,)]
    kernel(
        x_RD,
        x_RD if update_RD is None else update_RD,
        total_RD,
        gen.weight,
        und.weight,
        normed_RD,
        normed_RD if rows_R is None else rows_R,
        num_gen,
        gen.eps,
        1.0 / width,
        D=width,
        GEN_WIDTH=threads_of_mean(width, num_gen),
        UND_WIDTH=threads_of_mean(width, num_rows - num_gen),
        BLOCK=BLOCK,
        HAS_UPDATE=update_RD is not None,
        HAS_ROWS=rows_R is not None,
        num_warps=NUM_WARPS,
        enable_fp_fusion=False,
    )
    return total_RD, normed_RD
