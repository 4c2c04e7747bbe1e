"""Component ``pack_contexts`` with a shared prefix: what two contexts begin with alike is prefilled once.

A row's keys and values depend on the rows of its own context that it sees, so the picture's are the same in both
contexts that show it. What decides is the GEMMs: with half the rows of latents a GEMM may take another kernel, whose
sums differ in the last bit. It does below ``MIN_SHARED_LATENTS``, where latents are so few that they run twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bagel_perf.subjects.bagel.model.layout import BlockKind, Packing, Parts, Runs, Span
from bagel_perf.subjects.bagel.model.packing import contexts_of, pack_parts

MIN_SHARED_LATENTS = 1024
"""Rows of a block of latents, from which on H100 and H200 half as many give the same bits (reports/variants-h200)."""


def pack_contexts(parts: Parts, prompt_ids: Sequence[int], device: torch.device) -> Packing:
    """Leaves out the blocks that the first context has run, of each context that is its beginning; does not wait."""
    first = parts[0][1]
    own = [runs if index == 0 or not _begins(runs, first) else _rest(runs) for index, (_, runs) in enumerate(parts)]
    layout = pack_parts([(name, runs) for (name, _), runs in zip(parts, own, strict=True) if runs], prompt_ids, device)
    starts = {context.name: context.start for context in layout.contexts}
    spans: list[Span] = []
    for (name, runs), run in zip(parts, own, strict=True):
        begun = sum(length for _, length in run)
        if run:
            spans.append((starts[name], starts[name] + begun))
        if run != runs:
            spans.append((begun, sum(length for _, length in runs)))
    return Packing(layout=layout, contexts=contexts_of(parts), cache_spans=tuple(spans))


def _begins(runs: Runs, first: Runs) -> bool:
    """Text alone is left as it is: it costs next to nothing."""
    return any(kind != "text" for kind, _ in runs) and first[: len(runs)] == runs


def _rest(runs: Runs) -> Runs:
    """What a context that begins like the first has to run by itself: few latents, and what stands before them."""
    few: list[tuple[BlockKind, int]] = []
    for index, (kind, length) in enumerate(runs):
        if kind == "latent" and length < MIN_SHARED_LATENTS:
            few = list(runs[: index + 1])
    return tuple(few)
