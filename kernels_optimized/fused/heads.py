"""Attention of few queries: heads that share a KV head become rows of one head, and branches run side by side.

An attention kernel works on tiles of 128 queries of one head. 258 queries of 28 heads are 84 tiles, of which a third is
padding; packed as 1806 queries of 4 heads they are 60, and two branches fill the GPU at once. A query's answer does not
depend on the tile it lies in, so the bits stay; ``may_pack_heads`` asks the kernel itself.

Suffixes: Q query rows, S KV rows, H query heads, K KV heads, E head size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.bagel import Bagel
from bagel_perf.subjects.bagel.model.layout import Span

TILE = 128
"""Query rows of a tile of cuDNN's kernel on Hopper."""


def pack_heads(q_QHE: Tensor, num_kv_heads: int) -> Tensor:
    """Heads that lie as [K, H / K], laid as [H / K, K]."""
    packed_QHE: Tensor = q_QHE.unflatten(1, (num_kv_heads, -1)).transpose(1, 2).flatten(1, 2)
    return packed_QHE


def full(attention: Attention, q_QHE: Tensor, k_SKE: Tensor, v_SKE: Tensor, *, packed: bool) -> Tensor:
    """As ``Attention.full``; heads of ``packed`` queries lie as [H / K, K], those of the answers as [K, H / K]."""
    if not packed:
        return attention.full(q_QHE, k_SKE, v_SKE)
    num_kv_heads = k_SKE.shape[1]
    out = attention.full(q_QHE.unflatten(1, (-1, num_kv_heads)).flatten(0, 1), k_SKE, v_SKE)
    out_QHE: Tensor = out.unflatten(0, (q_QHE.shape[0], -1)).transpose(1, 2).flatten(1, 2)
    return out_QHE


def side_by_side(work: Callable[[int], None], number: int, device: torch.device | None) -> None:
    """``work(0)`` beside ``work(1)``, ``work(2)``, ... on a CUDA device; one after another where there is None."""
    if device is None or number == 1:
        for index in range(number):
            work(index)
        return
    here, side = torch.cuda.current_stream(device), _side_stream(device)
    side.wait_stream(here)
    with torch.cuda.stream(side):
        for index in range(1, number):
            work(index)
    work(0)
    here.wait_stream(side)


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def may_pack_heads(model: Bagel, segments: Sequence[tuple[Span, Span]]) -> bool:
    """Whether two branches fit on the GPU at once, and each branch gets the same bits.

    Asks the kernel, and waits for its answer, the first time that a shape occurs in the process.
    """
    attention, config = model.attention, model.config.llm
    if attention.backend != "cudnn" or not attention.on_cuda:
        return False
    num_queries = segments[0][0][1] - segments[0][0][0]
    num_tiles = config.num_kv_heads * math.ceil(num_queries * (config.num_heads // config.num_kv_heads) / TILE)
    if 2 * num_tiles > torch.cuda.get_device_properties(model.device).multi_processor_count:
        return False
    heads = config.num_heads, config.num_kv_heads, config.head_dim
    return all(_same_bits(attention, model.device, num_queries, stop - start, heads) for _, (start, stop) in segments)


@functools.cache
def _same_bits(
    attention: Attention, device: torch.device, num_queries: int, num_keys: int, heads: tuple[int, int, int]
) -> bool:
    num_heads, num_kv_heads, size = heads
    generator = torch.Generator(device).manual_seed(0)
    q, k, v = (
        torch.randn(rows, number, size, generator=generator, device=device).bfloat16()
        for rows, number in ((num_queries, num_heads), (num_keys, num_kv_heads), (num_keys, num_kv_heads))
    )
    return torch.equal(
        full(attention, pack_heads(q, num_kv_heads), k, v, packed=True), full(attention, q, k, v, packed=False)
    )
