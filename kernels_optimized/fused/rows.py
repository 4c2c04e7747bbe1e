"""Rows sorted by weight set: latents of all contexts or branches first, then their markers, patches and text.

Suffixes: R packed rows, T query rows by branch, S merged KV rows, K KV heads, E head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import LayerCache, VarlenLengths
from bagel_perf.subjects.bagel.model.denoise import Branches
from bagel_perf.subjects.bagel.model.layout import Span
from kernels_optimized.sync_free.lengths import attention_lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows:
    """``query_rows_R`` and ``kv_rows_R`` (int64) say where each packed row lies among queries and merged KV rows.

    Of the R rows the first ``num_gen`` take the generation weights. Queries and keys are normed and rotated in fp32, or
    in bf16 in rows where ``exact_R`` (bool) is False. ``packs_heads`` says that the query heads which share a KV head
    are rows of one head to attention, so that heads lie as [H / K, K] in place of [K, H / K].
    """

    num_gen: int
    query_rows_R: Tensor
    kv_rows_R: Tensor
    cos_T1E: Tensor
    sin_T1E: Tensor
    exact_R: Tensor | None = None
    packs_heads: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRows(PackedRows):
    """The rows of a kind of step, and what its attention asks for: a branch's queries and merged KV are a segment."""

    lengths: VarlenLengths
    segments: tuple[tuple[Span, Span], ...]


def step_rows(branches: Branches, *, packs_heads: bool = False) -> StepRows:
    """The order of a kind of step."""
    layout = branches.layout
    gen_rows, und_rows = layout.routing.gen_rows, layout.routing.und_rows
    assert gen_rows is not None and und_rows is not None
    query_rows_R = torch.cat([gen_rows, und_rows])
    return StepRows(
        num_gen=gen_rows.shape[0],
        query_rows_R=query_rows_R,
        kv_rows_R=layout.query_kv_rows_T[query_rows_R],
        cos_T1E=branches.rows.cos_T1E.clone(),
        sin_T1E=branches.rows.sin_T1E.clone(),
        lengths=attention_lengths(layout.queries, branches.kv),
        segments=branches.segments,
        packs_heads=packs_heads,
    )


class MergedKv:
    """Keys and values of all branches per layer, each context followed by room for its queries."""

    def __init__(self, branches: Branches) -> None:
        num_rows = sum(branches.kv.host)
        shapes = [(num_rows, *cache.key_PKE.shape[1:]) for cache in branches.caches]
        example = branches.caches[0].key_PKE
        self.layers = tuple(
            LayerCache(key_PKE=example.new_empty(shape), value_PKE=example.new_empty(shape)) for shape in shapes
        )

    def load(self, branches: Branches) -> None:
        """Copies the contexts' rows; does not wait."""
        past = branches.layout.past.host
        targets, sources = [], []
        for merged, cache in zip(self.layers, branches.caches, strict=True):
            row = 0
            for (_, (start, _)), length in zip(branches.segments, past, strict=True):
                for into, out_of in ((merged.key_PKE, cache.key_PKE), (merged.value_PKE, cache.value_PKE)):
                    targets.append(into[start : start + length])
                    sources.append(out_of[row : row + length])
                row += length
        filled = [i for i, target in enumerate(targets) if target.shape[0]]
        torch._foreach_copy_([targets[i] for i in filled], [sources[i] for i in filled])
