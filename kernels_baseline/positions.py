"""Component ``adjust_positions`` as upstream: boundaries are searched in a device tensor, element by element.

Places name vLLM-Omni's vllm_omni/model_executor/models/bagel/bagel.py at commit eb4e60ee ("ar").
Suffix: P packed prefill positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.layout import PLACEHOLDER_ID, Context, PrefillLayout, Routing


def adjust_positions(positions_P: Tensor, layout: PrefillLayout) -> tuple[Tensor, Routing]:
    """Rotary positions and the VAE mask; waits P - 1 times, 3 per context with a picture, 1 per text, and once.

    Without a picture it does not wait.
    """
    if not layout.latent_spans:
        return positions_P, route_text(layout)
    boundaries = [0]
    for i in range(1, positions_P.shape[0]):
        if positions_P[i] < positions_P[i - 1]:  # wait: one per pair of positions (ar:792)
            boundaries.append(i)
    boundaries.append(positions_P.shape[0])

    adjusted_P = positions_P.clone()
    vae_mask_P = torch.zeros_like(positions_P, dtype=torch.bool)
    next_positions: list[int] = []
    occupied = [context for context in layout.contexts if context.blocks]
    for context, start, stop in zip(occupied, boundaries[:-1], boundaries[1:], strict=True):
        if context.blocks[0].kind == "text":
            last = adjusted_P[stop - 1].item()  # wait: the rope position kept for the next stage (ar:864)
            next_positions.append(int(last) + 1)
            continue
        placeholders = (layout.token_ids_P[start:stop] == PLACEHOLDER_ID).nonzero(as_tuple=True)[0]  # wait (ar:821)
        first = start + int(placeholders[0].item())  # wait (ar:823)
        next_positions.append(rewrite_context(adjusted_P, vae_mask_P, context, first))
    has_gen = bool(vae_mask_P.any())  # wait (ar:867)
    routing = Routing(
        num_rows=layout.num_rows,
        latent_spans=layout.latent_spans,
        vae_mask_T=vae_mask_P,
        has_gen=has_gen,
        next_positions=tuple(next_positions),
    )
    return adjusted_P, routing


def route_text(layout: PrefillLayout) -> Routing:
    """Routing of a request without a picture, for which upstream runs its language model as it is (ar:764)."""
    return Routing(
        num_rows=layout.num_rows,
        latent_spans=(),
        has_und=True,
        has_gen=False,
        next_positions=tuple(context.length for context in layout.contexts if context.blocks),
    )


def rewrite_context(adjusted_P: Tensor, vae_mask_P: Tensor, context: Context, start: int) -> int:
    """Writes the rotary positions of a context with a picture that begins at row ``start``, and marks its latent rows.

    An image block shares one position, text counts on from there. Returns the next position. Slice fills do not wait,
    but the value of a single row, given by a Python index, is uploaded: upstream writes the row behind its latents so,
    a separator that BAGEL's released code does not have; here it is the block's end marker, at the same position.
    """
    position, row = 0, start
    for block in context.blocks:
        stop = row + block.length
        if block.kind == "text":
            adjusted_P[row:stop] = torch.arange(position, position + block.length, device=adjusted_P.device)
        elif block.kind == "latent":
            adjusted_P[row : stop - 1] = position
            adjusted_P[stop - 1] = position  # wait (ar:835)
            vae_mask_P[row + 1 : stop - 1] = True  # the markers take the understanding weights
        else:
            adjusted_P[row:stop] = position
        position += block.num_positions
        row = stop
    return position
