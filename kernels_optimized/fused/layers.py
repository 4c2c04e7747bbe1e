"""The decoder over rows sorted by weight set.

Suffixes: R packed rows, D model width, H query heads, E head size, T query rows by branch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.bagel import Bagel
from bagel_perf.subjects.bagel.model.contracts import LayerCache
from bagel_perf.subjects.bagel.model.decoder import DecoderLayer
from bagel_perf.subjects.bagel.model.parameters import Linear
from kernels_optimized.fused import ops
from kernels_optimized.fused.heads import full, side_by_side
from kernels_optimized.fused.rows import PackedRows, StepRows


def decode(model: Bagel, x_RD: Tensor, rows: StepRows, merged: Sequence[LayerCache]) -> Tensor:
    """All layers and the final norm, bf16 [T, D] by branch; the queries' keys and values go into ``merged``."""
    decoder, num_gen = model.decoder, rows.num_gen
    update_RD: Tensor | None = None
    for layer, cache in zip(decoder.layers, merged, strict=True):
        norms = layer.gen.input_norm, layer.und.input_norm
        x_RD, h_RD = ops.add_norm(x_RD, update_RD, *norms, num_gen)
        update_RD = _self_attention(model.attention, layer, h_RD, rows, cache)
        norms = layer.gen.post_norm, layer.und.post_norm
        x_RD, h_RD = ops.add_norm(x_RD, update_RD, *norms, num_gen)
        update_RD = feed_forward(layer, h_RD, num_gen)
    final = decoder.final_norm_gen, decoder.final_norm_und
    return ops.add_norm(x_RD, update_RD, *final, num_gen, rows.query_rows_R)[1]


def _self_attention(
    attention: Attention, layer: DecoderLayer, h_RD: Tensor, rows: StepRows, cache: LayerCache
) -> Tensor:
    q_THE = project(layer, h_RD, rows, cache)
    return both(_attend(attention, q_THE, cache, rows).flatten(1), layer.gen.output, layer.und.output, rows.num_gen)


def project(layer: DecoderLayer, h_RD: Tensor, rows: PackedRows, cache: LayerCache) -> Tensor:
    """Queries bf16 [T, H, E], normed and rotated; so are the keys, which with the values go into ``cache``."""
    gen, und = layer.gen, layer.und
    qkv_RHE = both(h_RD, gen.qkv, und.qkv, rows.num_gen).unflatten(-1, (-1, cache.key_PKE.shape[-1]))
    norms = (gen.query_norm, und.query_norm), (gen.key_norm, und.key_norm)
    return ops.norm_and_rotate(qkv_RHE, *norms, rows, cache)


def _attend(attention: Attention, q_THE: Tensor, cache: LayerCache, rows: StepRows) -> Tensor:
    """As ``Attention.varlen``, but in packed rows [R, H, E], to which each branch's answers are copied once."""
    keys, values = cache.key_PKE, cache.value_PKE
    if attention.backend == "flash":
        return attention.varlen(q_THE, keys, values, rows.lengths, rows.segments)[rows.query_rows_R]
    out_RHE = torch.empty_like(q_THE)
    num_latents = rows.num_gen // len(rows.segments)

    def attend(branch: int) -> None:
        query, kv = rows.segments[branch]
        out_QHE = full(attention, q_THE[slice(*query)], keys[slice(*kv)], values[slice(*kv)], packed=rows.packs_heads)
        first, marker = branch * num_latents, rows.num_gen + 2 * branch
        out_RHE[first : first + num_latents] = out_QHE[1:-1]
        out_RHE[marker : marker + 2] = out_QHE[:: num_latents + 1]

    side_by_side(attend, len(rows.segments), q_THE.device if rows.packs_heads else None)
    return out_RHE


def feed_forward(layer: DecoderLayer, h_RD: Tensor, num_gen: int) -> Tensor:
    """SwiGLU of both weight sets over their rows, bf16 [R, D]."""
    gate_up = both(h_RD, layer.gen.gate_up, layer.und.gate_up, num_gen)
    return both(ops.silu_mul(gate_up), layer.gen.down, layer.und.down, num_gen)


def both(x: Tensor, gen: Linear, und: Linear, num_gen: int) -> Tensor:
    """Both weight sets over their rows, into one tensor: the GEMMs of two calls, without a copy."""
    y = x.new_empty(x.shape[0], gen.weight.shape[0])
    for linear, rows in ((gen, slice(None, num_gen)), (und, slice(num_gen, None))):
        if linear.bias is None:
            torch.mm(x[rows], linear.weight.t(), out=y[rows])
        else:
            torch.addmm(linear.bias, x[rows], linear.weight.t(), out=y[rows])
    return y
