"""Component ``route_experts`` without waits: rows are index tensors, whose sizes the host knows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import Expert
from bagel_perf.subjects.bagel.model.layout import Routing, Span, complement
from kernels_baseline.routing import route_by_rows


def route_experts(x: Tensor, routing: Routing, und: Expert, gen: Expert, *, check_und: bool = False) -> Tensor:
    """Both weight sets over their rows, packed as the baseline packs them."""
    if not routing.latent_spans:
        return und(x)
    und_rows, gen_rows = routing.und_rows, routing.gen_rows
    if und_rows is None or gen_rows is None:  # positions come from a variant that leaves rows to the mask
        und_rows = span_rows(complement(routing.latent_spans, routing.num_rows), x.device)
        gen_rows = span_rows(routing.latent_spans, x.device)
    return route_by_rows(x, und_rows, gen_rows, und, gen)


def span_rows(spans: Sequence[Span], device: torch.device) -> Tensor:
    """The rows of some spans, int64, made on the device from host ints."""
    return torch.cat([torch.arange(start, stop, device=device) for start, stop in spans])
