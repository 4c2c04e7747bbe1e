"""GroupNorm and SiLU in four kernels, its mean and variance with the bits of PyTorch's.

PyTorch (aten/src/ATen/native/cuda/group_norm_kernel.cu, 2.11) gives each group a block of 512 threads. Thread t takes
the group's values t, t + 512, ... in the order [D, H, W], one after another, by Welford's update; then 32 lanes of each
of the 16 warps are combined as by Chan, Golub and LeVeque (1979), each half with the other, and the warps alike. So 32
groups keep 32 multiprocessors busy. Here each thread's chain is the same, but a group's chains are spread over several
programs, and a chain does not divide: the quotient by a count n is corrected from a product with 1 / n, which rounds as
a division does (Markstein, 1990) unless it is subnormal.

Suffixes: C channels, H and W rows and columns, 1 for a batch of one. In kernels: P positions, B channels of a block, D
channels of a group, T threads of a group, U values of a thread that are under way at once.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

from bagel_perf.subjects.bagel.model.contracts import GroupNorm

NUM_THREADS = 512
"""Of a block of PyTorch's kernel; the values of a group have to be a multiple."""
PROGRAM_THREADS = 128
"""Of these, the chains of one program: four programs a group make 128 programs of 32 groups."""
UNDER_WAY = 32
"""Values of a chain that are loaded ahead of their use."""


@triton.jit
def _planes(x_ptr, planes_ptr, num_positions, C: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_B: tl.constexpr):
    """Copies bf16 [P, C] to [C, P]."""
    position_P = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel_B = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)
    is_position_P = position_P < num_positions
    x_PB = tl.load(x_ptr + position_P[:, None] * C + channel_B[None, :], mask=is_position_P[:, None])
    target_BP = channel_B.to(tl.int64)[:, None] * num_positions + position_P[None, :]
    tl.store(planes_ptr + target_BP, tl.trans(x_PB), mask=is_position_P[None, :])


@triton.jit
def _update(mean_T, m2_T, x_T, count, inverse):
    """Welford's update by one value each, whose ``count`` it is."""
    x_T = x_T.to(tl.float32)
    delta_T = x_T - mean_T
    product_T = delta_T * inverse
    quotient_T = tl.fma(tl.fma(-product_T, count, delta_T), inverse, product_T)
    mean_T = mean_T + quotient_T
    return mean_T, tl.fma(delta_T, x_T - mean_T, m2_T)


@triton.jit
def _ahead(x_ptr, is_there, THREADS: tl.constexpr, NUMBER: tl.constexpr):
    """The next values of each thread."""
    values = (tl.load(x_ptr, mask=is_there),)
    for ahead in tl.static_range(1, NUMBER):
        value = tl.load(x_ptr + ahead * THREADS, mask=is_there)
        values = values + (value,)  # type: ignore[assignment]  # noqa: RUF005
    return values


@triton.jit
def _chains(
    planes_ptr,
    inverse_ptr,
    partial_ptr,
    length,
    THREADS: tl.constexpr,
    PROGRAM: tl.constexpr,
    UNDER_WAY: tl.constexpr,
):
    """Mean and sum of squared deviations of ``length`` values of each thread, to fp32 [2, groups, T]."""
    group, part = tl.program_id(0), tl.program_id(1)
    thread_T = part * PROGRAM + tl.arange(0, PROGRAM)
    x_ptr = planes_ptr + group.to(tl.int64) * length * THREADS + thread_T
    mean_T = tl.zeros((PROGRAM,), tl.float32)
    m2_T = tl.zeros((PROGRAM,), tl.float32)
    values = _ahead(x_ptr, True, THREADS, UNDER_WAY)
    for first in range(0, length, UNDER_WAY):
        x_ptr += UNDER_WAY * THREADS
        following = _ahead(x_ptr, first + UNDER_WAY < length, THREADS, UNDER_WAY)
        for ahead in tl.static_range(UNDER_WAY):
            inverse = tl.load(inverse_ptr + first + ahead)
            mean_T, m2_T = _update(mean_T, m2_T, values[ahead], (first + ahead + 1).to(tl.float32), inverse)
        values = following
    target_T = group * THREADS + thread_T
    tl.store(partial_ptr + target_T, mean_T)
    tl.store(partial_ptr + tl.num_programs(0) * THREADS + target_T, m2_T)


@triton.jit
def _combined(mean, m2, count, NUM: tl.constexpr):
    """Each even entry with the odd one after it, both of ``count`` values: [2 NUM] -> [NUM]."""
    mean_a, mean_b = tl.split(tl.reshape(mean, (NUM, 2)))
    m2_a, m2_b = tl.split(tl.reshape(m2, (NUM, 2)))
    delta = mean_b - mean_a
    return tl.fma(delta, 0.5, mean_a), tl.fma(delta * delta * count, 0.5, m2_a + m2_b), count * 2


@triton.jit
def _group_scales(partial_ptr, weight_ptr, bias_ptr, scale_ptr, length, eps, D: tl.constexpr, THREADS: tl.constexpr):
    """Scale and shift of each channel of a group, to fp32 [2, C]."""
    group, num_groups = tl.program_id(0), tl.num_programs(0)
    place_T = tl.arange(0, THREADS)
    # Neighbours are what is combined first: of a thread's number the bits of its lane, and of its warp, turn around.
    thread_T = tl.zeros_like(place_T)
    for bit in tl.static_range(5):
        thread_T += ((place_T >> bit) & 1) << (4 - bit)
    for bit in tl.static_range(4):
        thread_T += ((place_T >> (5 + bit)) & 1) << (8 - bit)
    mean = tl.load(partial_ptr + group * THREADS + thread_T)
    m2 = tl.load(partial_ptr + (num_groups + group) * THREADS + thread_T)
    count = length.to(tl.float32)
    mean, m2, count = _combined(mean, m2, count, 256)
    mean, m2, count = _combined(mean, m2, count, 128)
    mean, m2, count = _combined(mean, m2, count, 64)
    mean, m2, count = _combined(mean, m2, count, 32)
    mean, m2, count = _combined(mean, m2, count, 16)
    mean, m2, count = _combined(mean, m2, count, 8)
    mean, m2, count = _combined(mean, m2, count, 4)
    mean, m2, count = _combined(mean, m2, count, 2)
    mean, m2, count = _combined(mean, m2, count, 1)
    inverse_deviation = tl.rsqrt(tl.div_rn(m2, count) + eps)
    channel_D = group * D + tl.arange(0, D)
    scale_D = inverse_deviation * tl.load(weight_ptr + channel_D)
    tl.store(scale_ptr + channel_D, scale_D)
    tl.store(scale_ptr + num_groups * D + channel_D, -scale_D * mean + tl.load(bias_ptr + channel_D))


@triton.jit
def _scaled(x_ptr, scale_ptr, out_ptr, num_values, C: tl.constexpr, BLOCK: tl.constexpr, ACTIVATE: tl.constexpr):
    """x times its channel's scale, plus its shift, and SiLU of it; bf16 [P, C]."""
    value = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = value < num_values
    channel = value % C
    x = tl.load(x_ptr + value, mask=mask).to(tl.float32)
    y = tl.fma(x, tl.load(scale_ptr + channel), tl.load(scale_ptr + C + channel))
    if ACTIVATE:
        y = tl.div_rn(y, 1.0 + libdevice.exp(-y))
    tl.store(out_ptr + value, y.to(tl.bfloat16), mask=mask)


BLOCK_P, BLOCK_B, BLOCK = 64, 64, 2048


def norm_activate(x_1CHW: Tensor, norm: GroupNorm, *, activate: bool) -> Tensor:
    """As ``reference.norm_activate`` rounded to bf16, bit for bit: bf16 [1, C, H, W], channels last, in and out.

    The values of a group are a multiple of 512, and the channels one of 64 and of ``norm.num_groups``.
    """
    _, num_channels, height, width = x_1CHW.shape
    num_positions, width_of_group = height * width, num_channels // norm.num_groups
    num_values = num_positions * width_of_group
    planes, out_1CHW = torch.empty_like(x_1CHW), torch.empty_like(x_1CHW)
    partial = x_1CHW.new_empty(2, norm.num_groups, NUM_THREADS, dtype=torch.float32)
    scales = x_1CHW.new_empty(2, num_channels, dtype=torch.float32)
    length = num_values // NUM_THREADS
    kernel: Any = _planes[(triton.cdiv(num_positions, BLOCK_P), num_channels // BLOCK_B)]
    kernel(x_1CHW, planes, num_positions, C=num_channels, BLOCK_P=BLOCK_P, BLOCK_B=BLOCK_B)
    kernel = _chains[(norm.num_groups, NUM_THREADS // PROGRAM_THREADS)]
    inverses = _inverses(x_1CHW.device, 1 << (length - 1).bit_length())
    kernel(
        planes,
        inverses,
        partial,
        length,
        THREADS=NUM_THREADS,
        PROGRAM=PROGRAM_THREADS,
        UNDER_WAY=math.gcd(length, UNDER_WAY),
        num_warps=PROGRAM_THREADS // 32,
        enable_fp_fusion=False,
    )
    kernel = _group_scales[(norm.num_groups,)]
    kernel(
        partial,
        norm.weight,
        norm.bias,
        scales,
        length,
        norm.eps,
        D=width_of_group,
        THREADS=NUM_THREADS,
        num_warps=1,
        enable_fp_fusion=False,
    )
    kernel = _scaled[(triton.cdiv(x_1CHW.numel(), BLOCK),)]
    kernel(
        x_1CHW,
        scales,
        out_1CHW,
        x_1CHW.numel(),
        C=num_channels,
        BLOCK=BLOCK,
        ACTIVATE=activate,
        num_warps=8,
        enable_fp_fusion=False,
    )
    return out_1CHW


@functools.cache
def _inverses(device: torch.device, number: int) -> Tensor:
    """1 / n of n from 1 to ``number``, fp32, each rounded once."""
    return 1.0 / torch.arange(1, number + 1, dtype=torch.float32, device=device)
