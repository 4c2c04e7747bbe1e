"""Builds the layouts of a request: the packed prefill of all contexts, and the query block of the denoise loop."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from bagel_perf.model.layout import (
    PLACEHOLDER_ID,
    Block,
    BlockKind,
    Context,
    ContextName,
    Lengths,
    PrefillLayout,
    QueryLayout,
    Routing,
)
from bagel_perf.model.transfer import upload


def pack_i2i(prompt_ids: Sequence[int], num_latents: int, num_patches: int, device: torch.device) -> PrefillLayout:
    """Contexts of an image edit: main sees picture and text, cfg_text the picture alone, cfg_img the text alone."""
    image: list[tuple[BlockKind, int]] = [("latent", num_latents + 2), ("vit", num_patches + 2)]
    text: list[tuple[BlockKind, int]] = [("text", len(prompt_ids))]
    return _pack([("main", image + text), ("cfg_text", image), ("cfg_img", text)], prompt_ids, device)


def pack_t2i(prompt_ids: Sequence[int], device: torch.device) -> PrefillLayout:
    """Contexts of text to image: main and cfg_img hold the text, cfg_text is empty."""
    text: list[tuple[BlockKind, int]] = [("text", len(prompt_ids))]
    return _pack([("main", text), ("cfg_text", []), ("cfg_img", text)], prompt_ids, device)


def _pack(
    parts: list[tuple[ContextName, list[tuple[BlockKind, int]]]], prompt_ids: Sequence[int], device: torch.device
) -> PrefillLayout:
    contexts, token_ids, row = [], [], 0
    for name, runs in parts:
        blocks = []
        for kind, length in runs:
            blocks.append(Block(kind=kind, start=row, length=length))
            token_ids += list(prompt_ids) if kind == "text" else [PLACEHOLDER_ID] * length
            row += length
        contexts.append(Context(name=name, start=row - sum(length for _, length in runs), blocks=tuple(blocks)))
    positions = torch.cat([torch.arange(context.length) for context in contexts])
    return PrefillLayout(
        contexts=tuple(contexts),
        token_ids_P=upload(torch.tensor(token_ids), device),
        positions_P=upload(positions, device),
    )


def latent_position_ids(height: int, width: int, max_latent_size: int, device: torch.device) -> Tensor:
    """Rows of the latent position table for a grid of height x width latent tokens, int64 [height * width]."""
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    return (rows[:, None] * max_latent_size + columns).flatten()


def pack_queries(contexts: Sequence[Context], positions: Sequence[int], latent_position_ids_N: Tensor) -> QueryLayout:
    """The query batch of one denoise step, one branch per context; the contexts' KV must lie packed in this order.

    ``positions`` holds the rotary position of each branch's queries, which they all share.
    """
    device = latent_position_ids_N.device
    num_latents = latent_position_ids_N.shape[0]
    num_rows = num_latents + 2
    num_branches = len(contexts)
    past = [context.length for context in contexts]
    starts = [0, *accumulate(length + num_rows for length in past)]
    branch_starts = [branch * num_rows for branch in range(num_branches)]
    markers = torch.tensor([0, num_rows - 1])
    latents = torch.arange(1, num_rows - 1)
    return QueryLayout(
        sequence=_lengths([num_rows], device),
        marker_rows=upload(markers, device),
        latent_rows=upload(latents, device),
        latent_position_ids_N=latent_position_ids_N,
        queries=_lengths([num_rows] * num_branches, device),
        past=_lengths(past, device),
        positions_T=upload(_cat([torch.full((num_rows,), position) for position in positions]), device),
        query_kv_rows_T=upload(
            _cat([torch.arange(num_rows) + s + p for s, p in zip(starts, past, strict=False)]), device
        ),
        past_kv_rows=upload(_cat([torch.arange(p) + s for s, p in zip(starts, past, strict=False)]), device),
        routing=Routing(
            num_rows=num_branches * num_rows,
            latent_spans=tuple((start + 1, start + num_rows - 1) for start in branch_starts),
            und_rows=upload(_cat([markers + start for start in branch_starts]), device),
            gen_rows=upload(_cat([latents + start for start in branch_starts]), device),
            has_und=True,
            has_gen=True,
        ),
    )


def _lengths(values: Sequence[int], device: torch.device) -> Lengths:
    return Lengths(device_B=upload(torch.tensor(list(values)), device), host=tuple(values))


def _cat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts))
