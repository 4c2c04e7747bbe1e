"""Component ``prefill_layers`` over rows sorted by weight set, as in the step; attention takes them by context.

A prefill is there for its keys and values, so the last layer ends with them: its attention, its MLP and the final norm
are left out.

Suffixes: P packed prefill rows, R the same sorted by weight set, D model width, H query heads, K KV heads, E head size,
Q query rows of a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.contracts import LayerCache, Prefilling
from bagel_perf.subjects.bagel.model.layout import Block, PrefillLayout, Span, complement
from bagel_perf.subjects.bagel.model.prefill import PrefillState
from bagel_perf.subjects.bagel.model.primitives import upload
from kernels_optimized.fused import ops
from kernels_optimized.fused.heads import side_by_side
from kernels_optimized.fused.layers import both, feed_forward, project
from kernels_optimized.fused.rows import PackedRows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A block that attends to its context from ``first_key`` on; ``places`` are its rows' places among the R.

    Of a block of latents these are its two markers and its patches, of any other the whole.
    """

    block: Block
    first_key: int
    places: tuple[Span, ...]

    @property
    def num_products(self) -> int:
        return self.block.length * (self.block.stop - self.first_key)


def prefill_layers(state: Prefilling) -> tuple[LayerCache, ...]:
    """Keys and values of every layer; does not wait."""
    assert isinstance(state, PrefillState)
    model, layout = state.model, state.layout
    rows, pieces = _packed_rows(state), _pieces(layout)
    num_gen, config = rows.num_gen, model.config.llm
    x_RD, update_RD = state.x_PD[rows.query_rows_R], None
    caches: list[LayerCache] = []
    for layer in model.decoder.layers:
        x_RD, h_RD = ops.add_norm(x_RD, update_RD, layer.gen.input_norm, layer.und.input_norm, num_gen)
        shape = layout.num_rows, config.num_kv_heads, config.head_dim
        caches.append(LayerCache(key_PKE=x_RD.new_empty(shape), value_PKE=x_RD.new_empty(shape)))
        q_PHE = project(layer, h_RD, rows, caches[-1])
        if len(caches) == len(model.decoder.layers):
            break
        out_RHE = _attend(model.attention, q_PHE, caches[-1], pieces)
        update_RD = both(out_RHE.flatten(1), layer.gen.output, layer.und.output, num_gen)
        x_RD, h_RD = ops.add_norm(x_RD, update_RD, layer.gen.post_norm, layer.und.post_norm, num_gen)
        update_RD = feed_forward(layer, h_RD, num_gen)
    return tuple(caches)


def _packed_rows(state: PrefillState) -> PackedRows:
    """Patches of latents first, then all else, each in the order of the prefill."""
    layout, device = state.layout, state.model.device
    gen_spans = layout.latent_spans
    order = [torch.arange(*span) for span in (*gen_spans, *complement(gen_spans, layout.num_rows))]
    is_exact_P = torch.zeros(layout.num_rows, dtype=torch.bool)
    for block in layout.blocks:
        is_exact_P[block.start : block.stop] = block.kind == "latent"
    rows_R = torch.cat(order)
    query_rows_R = upload(rows_R, device)
    return PackedRows(
        num_gen=sum(stop - start for start, stop in gen_spans),
        query_rows_R=query_rows_R,
        kv_rows_R=query_rows_R,
        cos_T1E=state.rows.cos_T1E,
        sin_T1E=state.rows.sin_T1E,
        exact_R=upload(is_exact_P[rows_R], device),
    )


def _pieces(layout: PrefillLayout) -> Sequence[_Piece]:
    """All blocks, the one with the most work first."""
    return sorted(_in_order(layout), key=lambda piece: -piece.num_products)


def _in_order(layout: PrefillLayout) -> Iterator[_Piece]:
    gen_row, und_row = 0, sum(stop - start for start, stop in layout.latent_spans)
    for context in layout.contexts:
        for block in context.blocks:
            num_gen = block.length - 2 if block.kind == "latent" else 0
            num_und = block.length - num_gen
            und = und_row, und_row + num_und
            places = (und, (gen_row, gen_row + num_gen)) if num_gen else (und,)
            yield _Piece(block=block, first_key=context.start, places=places)
            gen_row, und_row = gen_row + num_gen, und_row + num_und


def _attend(attention: Attention, q_PHE: Tensor, cache: LayerCache, pieces: Sequence[_Piece]) -> Tensor:
    """Each block sees its context up to its own end: an image block all of it, text causally; bf16 [R, H, E]."""
    out_RHE = torch.empty_like(q_PHE)

    def attend(index: int) -> None:
        piece = pieces[index]
        block, keys = piece.block, slice(piece.first_key, piece.block.stop)
        attend_to = attention.causal if block.kind == "text" else attention.full
        out_QHE = attend_to(q_PHE[block.start : block.stop], cache.key_PKE[keys], cache.value_PKE[keys])
        (und, *gen) = (out_RHE[start:stop] for start, stop in piece.places)
        if gen:
            gen[0].copy_(out_QHE[1:-1])
            und.copy_(out_QHE[:: block.length - 1])
        else:
            und.copy_(out_QHE)

    side_by_side(attend, len(pieces), q_PHE.device if attention.on_cuda else None)
    return out_RHE
