"""Component ``adjust_positions`` of pull request 3987: positions go to the host once, occupancy is kept as bools.

Suffix: P packed prefill positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.layout import PLACEHOLDER_ID, PrefillLayout, Routing
from kernels_baseline.positions import rewrite_context, route_text


def adjust_positions(positions_P: Tensor, layout: PrefillLayout) -> tuple[Tensor, Routing]:
    """Rotary positions and the VAE mask; waits 3 times, 3 per context with a picture, 1 per text.

    Without a picture it does not wait.
    """
    if not layout.latent_spans:
        return positions_P, route_text(layout)
    on_host = positions_P.tolist()  # wait: one for all pairs
    boundaries = [0]
    for i in range(1, len(on_host)):
        if on_host[i] < on_host[i - 1]:
            boundaries.append(i)
    boundaries.append(len(on_host))

    adjusted_P = positions_P.clone()
    vae_mask_P = torch.zeros_like(positions_P, dtype=torch.bool)
    next_positions: list[int] = []
    occupied = [context for context in layout.contexts if context.blocks]
    for context, start, stop in zip(occupied, boundaries[:-1], boundaries[1:], strict=True):
        if context.blocks[0].kind == "text":
            last = adjusted_P[stop - 1].item()  # wait
            next_positions.append(int(last) + 1)
            continue
        placeholders = (layout.token_ids_P[start:stop] == PLACEHOLDER_ID).nonzero(as_tuple=True)[0]  # wait
        first = start + int(placeholders[0].item())  # wait
        next_positions.append(rewrite_context(adjusted_P, vae_mask_P, context, first))
    routing = Routing(
        num_rows=layout.num_rows,
        latent_spans=layout.latent_spans,
        vae_mask_T=vae_mask_P,
        has_gen=bool(vae_mask_P.any()),  # wait: once per request, not per layer
        has_und=bool((~vae_mask_P).any()),  # wait: once per request
        next_positions=tuple(next_positions),
    )
    return adjusted_P, routing
