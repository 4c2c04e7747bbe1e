"""GroupNorm and SiLU in three kernels: partial statistics of chunks of positions, their combination, and the result.

The first subtracts from each channel of a chunk the first value that it has there, so that squares do not cancel where
the mean is large. As that value is part of the sum of squared deviations itself, the relative error of the sum is at
most about the length of the chunk times that of fp32. Chunks are combined as by Chan, Golub and LeVeque (1979), in one
order that the shape alone decides, without atomics: the same input gives the same bits.

Suffixes: C channels, H and W rows and columns, 1 for a batch of one. In kernels: P positions, B channels of a block, G
groups of a block, D channels of a group, N chunks.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import GroupNorm

BLOCK_C = 128
"""Channels of one program: 256 neighbouring bytes of bf16."""
TILE = 4096
"""Values that a program of the statistics has under way at once; twice as many in the last kernel."""
MAX_PROGRAMS = 2048
"""Programs of the statistics; fewer would leave multiprocessors idle at the end, more would make many partial sums."""


@triton.jit
def _chunk_statistics(
    x_ptr,
    partial_ptr,
    num_positions,
    chunk_positions,
    C: tl.constexpr,
    D: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Mean and sum of squared deviations of each group of a channel block over one chunk, to fp32 [2, C / D, N]."""
    chunk, num_chunks = tl.program_id(1), tl.num_programs(1)
    start = chunk * chunk_positions
    num_rows = tl.minimum(num_positions - start, chunk_positions)
    column_B = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    x_ptr += start.to(tl.int64) * C
    origin_B = tl.load(x_ptr + column_B).to(tl.float32)
    sum_PB = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    square_PB = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for first in range(0, num_rows, BLOCK_P):
        row_P = first + tl.arange(0, BLOCK_P)
        is_row_P1 = row_P[:, None] < num_rows
        x_PB = tl.load(x_ptr + row_P[:, None] * C + column_B[None, :], mask=is_row_P1, other=0.0).to(tl.float32)
        shifted_PB = tl.where(is_row_P1, x_PB - origin_B[None, :], 0.0)
        sum_PB += shifted_PB
        square_PB += shifted_PB * shifted_PB
    count = num_rows.to(tl.float32)
    offset_B = tl.sum(sum_PB, 0) / count
    m2_B = tl.sum(square_PB, 0) - offset_B * offset_B * count
    mean_GD = tl.reshape(origin_B + offset_B, (BLOCK_C // D, D))
    mean_G = tl.sum(mean_GD, 1) * (1.0 / D)
    apart_GD = mean_GD - mean_G[:, None]
    m2_G = tl.sum(tl.reshape(m2_B, (BLOCK_C // D, D)) + apart_GD * apart_GD * count, 1)
    group_G = tl.program_id(0) * (BLOCK_C // D) + tl.arange(0, BLOCK_C // D)
    tl.store(partial_ptr + group_G * num_chunks + chunk, mean_G)
    tl.store(partial_ptr + (C // D + group_G) * num_chunks + chunk, m2_G)


@triton.jit
def _combine(
    partial_ptr,
    statistics_ptr,
    num_chunks,
    num_positions,
    chunk_positions,
    eps,
    D: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Mean and reciprocal standard deviation of one group over all chunks, to fp32 [2, groups]."""
    group, num_groups = tl.program_id(0), tl.num_programs(0)
    chunk_N = tl.arange(0, BLOCK_N)
    is_chunk_N = chunk_N < num_chunks
    mean_ptr = partial_ptr + group * num_chunks
    mean_N = tl.load(mean_ptr + chunk_N, mask=is_chunk_N, other=0.0)
    m2_N = tl.load(mean_ptr + num_groups * num_chunks + chunk_N, mask=is_chunk_N, other=0.0)
    rows_N = tl.minimum(num_positions - chunk_N * chunk_positions, chunk_positions)
    count_N = tl.where(is_chunk_N, rows_N * D, 0).to(tl.float32)
    count = tl.sum(count_N, 0)
    origin = tl.load(mean_ptr)
    apart_N = tl.where(is_chunk_N, mean_N - origin, 0.0)
    offset = tl.sum(apart_N * count_N, 0) / count
    apart_N -= offset
    variance = tl.sum(m2_N + apart_N * apart_N * count_N, 0) / count
    tl.store(statistics_ptr + group, origin + offset)
    tl.store(statistics_ptr + num_groups + group, 1.0 / tl.sqrt_rn(variance + eps))


@triton.jit
def _apply(
    x_ptr,
    statistics_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    num_positions,
    C: tl.constexpr,
    D: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
    ACTIVATE: tl.constexpr,
):
    """One tile of the result, rounded to bf16."""
    # From the end: what the statistics read last is still in the L2 cache.
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    column_B = tile % (C // BLOCK_C) * BLOCK_C + tl.arange(0, BLOCK_C)
    start = tile // (C // BLOCK_C) * BLOCK_P
    row_P = tl.arange(0, BLOCK_P)
    is_row_P1 = row_P[:, None] < num_positions - start
    place_PB = row_P[:, None] * C + column_B[None, :]
    x_PB = tl.load(x_ptr + start.to(tl.int64) * C + place_PB, mask=is_row_P1, other=0.0).to(tl.float32)
    mean_B = tl.load(statistics_ptr + column_B // D)
    scale_B = tl.load(statistics_ptr + C // D + column_B // D) * tl.load(weight_ptr + column_B)
    y_PB = (x_PB - mean_B[None, :]) * scale_B[None, :] + tl.load(bias_ptr + column_B)[None, :]
    if ACTIVATE:
        y_PB = y_PB / (1.0 + tl.exp(-y_PB))
    tl.store(out_ptr + start.to(tl.int64) * C + place_PB, y_PB.to(tl.bfloat16), mask=is_row_P1)


def norm_activate(x_1CHW: Tensor, norm: GroupNorm, *, activate: bool) -> Tensor:
    """As the model's ``primitives.norm_activate``, rounded to bf16 [1, C, H, W] in the memory format of x.

    bf16 or fp32, C a power of two; x is copied to channels last and the result back where x does not lie like that.
    """
    last_1CHW = x_1CHW.contiguous(memory_format=torch.channels_last)
    out_1CHW = torch.empty_like(last_1CHW, dtype=torch.bfloat16)
    num_channels, num_positions = x_1CHW.shape[1], x_1CHW.shape[2] * x_1CHW.shape[3]
    width, block = num_channels // norm.num_groups, min(num_channels, BLOCK_C)
    shape: dict[str, int] = {"C": num_channels, "D": width, "BLOCK_C": block}
    statistics = _statistics(last_1CHW, norm, num_positions, shape)
    num_rows = 2 * TILE // block
    kernel: Any = _apply[(triton.cdiv(num_positions, num_rows) * (num_channels // block),)]
    kernel(
        last_1CHW,
        statistics,
        norm.weight,
        norm.bias,
        out_1CHW,
        num_positions,
        **shape,
        BLOCK_P=num_rows,
        ACTIVATE=activate,
        num_warps=4,
    )
    return out_1CHW if last_1CHW is x_1CHW else out_1CHW.contiguous()


def _statistics(last_1CHW: Tensor, norm: GroupNorm, num_positions: int, shape: dict[str, int]) -> Tensor:
    """Means and reciprocal standard deviations, fp32 [2, groups]."""
    num_blocks, num_rows = shape["C"] // shape["BLOCK_C"], TILE // shape["BLOCK_C"]
    tiles_per_chunk = triton.cdiv(triton.cdiv(num_positions, num_rows), max(MAX_PROGRAMS // num_blocks, 1))
    chunk_positions = tiles_per_chunk * num_rows
    num_chunks = triton.cdiv(num_positions, chunk_positions)
    partial = last_1CHW.new_empty((2, norm.num_groups, num_chunks), dtype=torch.float32)
    statistics = last_1CHW.new_empty((2, norm.num_groups), dtype=torch.float32)
    chunks: Any = _chunk_statistics[(num_blocks, num_chunks)]
    chunks(last_1CHW, partial, num_positions, chunk_positions, **shape, BLOCK_P=num_rows, num_warps=4)
    combine: Any = _combine[(norm.num_groups,)]
    combine(
        partial,
        statistics,
        num_chunks,
        num_positions,
        chunk_positions,
        norm.eps,
        D=shape["D"],
        BLOCK_N=triton.next_power_of_2(num_chunks),
        num_warps=4,
    )
    return statistics
