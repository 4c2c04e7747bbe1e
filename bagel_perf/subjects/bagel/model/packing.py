"""Builds the layouts of a request: the packed prefill of all contexts, and the query block of the denoise loop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import LocateBranches
from bagel_perf.subjects.bagel.model.layout import (
    PLACEHOLDER_ID,
    Block,
    BranchOffsets,
    Context,
    Lengths,
    Parts,
    PrefillLayout,
    QueryLayout,
    Routing,
    Runs,
)
from bagel_perf.subjects.bagel.model.primitives import upload


def edit_parts(num_text: int, num_latents: int, num_patches: int) -> Parts:
    """Contexts of an image edit: main sees picture and text, cfg_text the picture alone, cfg_img the text alone."""
    image: Runs = (("latent", num_latents + 2), ("vit", num_patches + 2))
    text: Runs = (("text", num_text),)
    return (("main", image + text), ("cfg_text", image), ("cfg_img", text))


def text_parts(num_text: int) -> Parts:
    """Contexts of text to image: main and cfg_img hold the text, cfg_text is empty."""
    text: Runs = (("text", num_text),)
    return (("main", text), ("cfg_text", ()), ("cfg_img", text))


def contexts_of(parts: Parts) -> tuple[Context, ...]:
    """The contexts laid end to end."""
    contexts, row = [], 0
    for name, runs in parts:
        start, blocks = row, []
        for kind, length in runs:
            blocks.append(Block(kind=kind, start=row, length=length))
            row += length
        contexts.append(Context(name=name, start=start, blocks=tuple(blocks)))
    return tuple(contexts)


def pack_parts(parts: Parts, prompt_ids: Sequence[int], device: torch.device) -> PrefillLayout:
    """All contexts in one packed sequence; every block of text is the prompt."""
    contexts = contexts_of(parts)
    token_ids: list[int] = []
    for context in contexts:
        for block in context.blocks:
            token_ids += list(prompt_ids) if block.kind == "text" else [PLACEHOLDER_ID] * block.length
    positions = torch.cat([torch.arange(context.length) for context in contexts])
    return PrefillLayout(
        contexts=contexts,
        token_ids_P=upload(torch.tensor(token_ids), device),
        positions_P=upload(positions, device),
    )


def latent_position_ids(height: int, width: int, max_latent_size: int, device: torch.device) -> Tensor:
    """Rows of the latent position table for a grid of height x width latent tokens, int64 [height * width]."""
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    return (rows[:, None] * max_latent_size + columns).flatten()


ALONE = BranchOffsets(queries=(0,), merged=(0,))
"""Of a batch of one branch, which needs no sums."""


def pack_queries(
    contexts: Sequence[Context],
    positions: Sequence[int],
    latent_position_ids_N: Tensor,
    branch_offsets: LocateBranches,
) -> QueryLayout:
    """The query batch of one denoise step, one branch per context; the contexts' KV must lie packed in this order.

    ``positions`` holds the rotary position of each branch's queries, which they all share. ``branch_offsets`` is asked
    where the branches begin if there is more than one.
    """
    device = latent_position_ids_N.device
    num_latents = latent_position_ids_N.shape[0]
    num_rows = num_latents + 2
    num_branches = len(contexts)
    sequence = _lengths([num_rows], device)
    past = _lengths([context.length for context in contexts], device)
    offsets = branch_offsets(sequence, past) if num_branches > 1 else ALONE
    markers = torch.tensor([0, num_rows - 1])
    latents = torch.arange(1, num_rows - 1)
    return QueryLayout(
        sequence=sequence,
        marker_rows=upload(markers, device),
        latent_rows=upload(latents, device),
        latent_position_ids_N=latent_position_ids_N,
        queries=_lengths([num_rows] * num_branches, device),
        past=past,
        positions_T=upload(_cat([torch.full((num_rows,), position) for position in positions]), device),
        query_kv_rows_T=upload(
            _cat([torch.arange(num_rows) + s + p for s, p in zip(offsets.merged, past.host, strict=True)]), device
        ),
        past_kv_rows=upload(
            _cat([torch.arange(p) + s for s, p in zip(offsets.merged, past.host, strict=True)]), device
        ),
        routing=Routing(
            num_rows=num_branches * num_rows,
            latent_spans=tuple((start + 1, start + num_rows - 1) for start in offsets.queries),
            und_rows=upload(_cat([markers + start for start in offsets.queries]), device),
            gen_rows=upload(_cat([latents + start for start in offsets.queries]), device),
            has_und=True,
            has_gen=True,
        ),
    )


def _lengths(values: Sequence[int], device: torch.device) -> Lengths:
    return Lengths(device_B=upload(torch.tensor(list(values)), device), host=tuple(values))


def _cat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts))
