"""Component ``route_experts`` of pull request 3987: the mask's occupancy is read from bools; the gathers still wait."""

from __future__ import annotations

from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import Expert
from bagel_perf.subjects.bagel.model.layout import Routing
from kernels_baseline.routing import route_by_rows


def route_experts(x: Tensor, routing: Routing, und: Expert, gen: Expert, *, check_und: bool = False) -> Tensor:
    """Both weight sets over their rows; in the prefill waits four times to gather and scatter.

    Without a picture it does not wait.
    """
    if not routing.latent_spans:
        return und(x)
    vae_mask_T = routing.vae_mask_T
    if vae_mask_T is None:
        return route_by_rows(x, routing.und_rows, routing.gen_rows, und, gen)
    if not (vae_mask_T.any() if routing.has_gen is None else routing.has_gen):
        return und(x)
    if check_und and not ((~vae_mask_T).any() if routing.has_und is None else routing.has_und):
        return gen(x)
    y_gen = gen(x[vae_mask_T])  # wait: a bool index asks the device for its size
    y_und = und(x[~vae_mask_T])  # wait
    y = y_gen.new_empty((x.shape[0], *y_gen.shape[1:]))
    y[vae_mask_T] = y_gen  # wait
    y[~vae_mask_T] = y_und  # wait
    return y
