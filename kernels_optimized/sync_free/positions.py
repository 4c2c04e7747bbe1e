"""Component ``adjust_positions`` without waits: boundaries, positions and rows follow from the lengths the host packed.

Suffix: P packed prefill positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.layout import Context, PrefillLayout, Routing, complement
from bagel_perf.subjects.bagel.model.primitives import upload
from kernels_optimized.sync_free.routing import span_rows


def adjust_positions(positions_P: Tensor, layout: PrefillLayout) -> tuple[Tensor, Routing]:
    """Rotary positions by one pinned upload, and rows of either weight set made on the device."""
    on_host_P = torch.cat([_context_positions(context) for context in layout.contexts if context.blocks])
    adjusted_P = upload(on_host_P, positions_P.device)
    latent_spans = layout.latent_spans
    und_spans = complement(latent_spans, layout.num_rows)
    vae_mask_P = torch.zeros_like(positions_P, dtype=torch.bool)
    for start, stop in latent_spans:
        vae_mask_P[start:stop] = True
    routing = Routing(
        num_rows=layout.num_rows,
        latent_spans=latent_spans,
        vae_mask_T=vae_mask_P,
        und_rows=span_rows(und_spans, positions_P.device) if latent_spans else None,
        gen_rows=span_rows(latent_spans, positions_P.device) if latent_spans else None,
        has_und=bool(und_spans),
        has_gen=bool(latent_spans),
        next_positions=tuple(context.next_position for context in layout.contexts if context.blocks),
    )
    return adjusted_P, routing


def _context_positions(context: Context) -> Tensor:
    """An image block shares one position, text counts on from there; int64 [context.length] on the host."""
    parts, position = [], 0
    for block in context.blocks:
        if block.kind == "text":
            parts.append(torch.arange(position, position + block.length))
        else:
            parts.append(torch.full((block.length,), position))
        position += block.num_positions
    return torch.cat(parts)
