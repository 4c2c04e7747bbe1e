"""Head norm and rotary embedding of queries and keys in one kernel, which puts them, and values, in their places.

PyTorch's mean gives a head of 128 values 32 threads, or more of which the others add nothing, however many heads there
are.

Suffixes: R packed rows, H query heads, K KV heads, E head size (128), T query rows by branch, S merged KV rows.
"""

from __future__ import annotations

import math
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import LayerCache
from bagel_perf.subjects.bagel.model.decoder import RmsNorm
from kernels_optimized.fused.kernels.norm import sum_of_threads
from kernels_optimized.fused.rows import PackedRows

MAX_HEADS = 4
"""Heads of one program."""


@triton.jit
def _rounded(x, exact):
    """x, fp32, as an operator of PyTorch gives it: in bf16 where the row is not exact."""
    return tl.where(exact, x, x.to(tl.bfloat16).to(tl.float32))


@triton.jit
def _norm_and_rotate_heads(
    x_ptr, weight_ptr, cos_ptr, sin_ptr, out_ptr, out_heads, exact, eps, factor, HEADS: tl.constexpr
):
    """Heads of 128 values; every product and sum is rounded by itself, to fp32 if ``exact``, the result to bf16."""
    thread, fourth = tl.arange(0, 32)[None, :, None] * 4, tl.arange(0, 4)[None, None, :]
    column = thread + fourth
    other = (column + 64) % 128
    place = tl.arange(0, HEADS)[:, None, None] * 128
    x = tl.load(x_ptr + place + column).to(tl.float32)
    paired = tl.load(x_ptr + place + other).to(tl.float32)
    scale = tl.rsqrt(sum_of_threads(x * x, HEADS, 32) * factor + eps)[:, None, None]
    sign = tl.where(column < 64, -1.0, 1.0)
    normed = _rounded(tl.load(weight_ptr + column).to(tl.float32) * _rounded(x * scale, exact), exact)
    turned = sign * _rounded(tl.load(weight_ptr + other).to(tl.float32) * _rounded(paired * scale, exact), exact)
    cos, sin = tl.load(cos_ptr + column).to(tl.float32), tl.load(sin_ptr + column).to(tl.float32)
    rotated = _rounded(normed * cos, exact) + _rounded(turned * sin, exact)
    tl.store(out_ptr + out_heads[:, None, None] * 128 + column, rotated.to(tl.bfloat16))


@triton.jit
def _norm_and_rotate(
    qkv_ptr,
    query_gen_ptr,
    query_und_ptr,
    key_gen_ptr,
    key_und_ptr,
    cos_ptr,
    sin_ptr,
    query_rows_ptr,
    kv_rows_ptr,
    exact_ptr,
    q_ptr,
    k_ptr,
    v_ptr,
    num_gen,
    query_eps,
    key_eps,
    factor,
    H: tl.constexpr,
    K: tl.constexpr,
    HEADS: tl.constexpr,
    PACKS_HEADS: tl.constexpr,
    HAS_EXACT: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS
    query_row, kv_row = tl.load(query_rows_ptr + row), tl.load(kv_rows_ptr + row)
    exact = True
    if HAS_EXACT:
        exact = tl.load(exact_ptr + row) != 0
    x = qkv_ptr + (row * (H + 2 * K) + head) * 128
    cos, sin = cos_ptr + query_row * 128, sin_ptr + query_row * 128
    if head < H:
        weight = query_gen_ptr if row < num_gen else query_und_ptr
        heads = head + tl.arange(0, HEADS)
        if PACKS_HEADS:
            heads = heads % (H // K) * K + heads // (H // K)
        _norm_and_rotate_heads(x, weight, cos, sin, q_ptr + query_row * H * 128, heads, exact, query_eps, factor, HEADS)
    elif head < H + K:
        weight = key_gen_ptr if row < num_gen else key_und_ptr
        heads = head - H + tl.arange(0, HEADS)
        _norm_and_rotate_heads(x, weight, cos, sin, k_ptr + kv_row * K * 128, heads, exact, key_eps, factor, HEADS)
    else:
        column = tl.arange(0, 128 * HEADS)
        tl.store(v_ptr + (kv_row * K + head - H - K) * 128 + column, tl.load(x + column))


def norm_and_rotate(
    qkv_RHE: Tensor,
    query_norms: tuple[RmsNorm, RmsNorm],
    key_norms: tuple[RmsNorm, RmsNorm],
    rows: PackedRows,
    merged: LayerCache,
) -> Tensor:
    """As ``reference.norm_and_rotate``, bit for bit, for contiguous bf16 heads of 128."""
    assert all(gen.eps == und.eps for gen, und in (query_norms, key_norms)), "the kernel takes one epsilon a pair"
    num_rows, num_heads_in_all, head_dim = qkv_RHE.shape
    num_kv_heads = merged.key_PKE.shape[1]
    num_heads = num_heads_in_all - 2 * num_kv_heads
    q_THE = qkv_RHE.new_empty(num_rows, num_heads, head_dim)
    heads = math.gcd(num_heads, num_kv_heads, MAX_HEADS)
    kernel: Any = _norm_and_rotate[(num_rows, num_heads_in_all // heads)]
    kernel(
        qkv_RHE,
        *(norm.weight for norm in (*query_norms, *key_norms)),
        rows.cos_T1E,
        rows.sin_T1E,
        rows.query_rows_R,
        rows.kv_rows_R,
        rows.kv_rows_R if rows.exact_R is None else rows.exact_R,
        q_THE,
        merged.key_PKE,
        merged.value_PKE,
        rows.num_gen,
        query_norms[0].eps,
        key_norms[0].eps,
        1.0 / head_dim,
        H=num_heads,
        K=num_kv_heads,
        HEADS=heads,
        PACKS_HEADS=rows.packs_heads,
        HAS_EXACT=rows.exact_R is not None,
        num_warps=1,
        enable_fp_fusion=False,
    )
    return q_THE
