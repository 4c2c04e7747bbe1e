"""Component ``route_experts`` as upstream: the prefill asks the device for latent rows, then gathers by bool mask.

Upstream asks once per layer, once for queries and keys together, and once per remaining linear or norm; here queries
and keys ask for themselves, which gives the same seven questions and 28 gathers and scatters a layer.
Places name vLLM-Omni's vllm_omni/model_executor/models/bagel/bagel.py at commit eb4e60ee ("ar").
"""

from __future__ import annotations

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import Expert
from bagel_perf.subjects.bagel.model.layout import Routing


def route_experts(x: Tensor, routing: Routing, und: Expert, gen: Expert, *, check_und: bool = False) -> Tensor:
    """Both weight sets over their rows; in the prefill waits once to ask and four times to gather and scatter.

    Without a picture it does not wait.
    """
    if not routing.latent_spans:
        return und(x)
    vae_mask_T = routing.vae_mask_T
    if vae_mask_T is None:
        return route_by_rows(x, routing.und_rows, routing.gen_rows, und, gen)
    if not vae_mask_T.any():  # wait (ar:913, 934, 944, 956, 963, 988, 1004, 1024)
        return und(x)
    if check_und and not (~vae_mask_T).any():  # wait: at the final norm only (ar:916)
        return gen(x)
    y_gen = gen(x[vae_mask_T])  # wait: the index asks for its size (ar:918, 946, 958, 965, 991, 1007, 1008, 1027)
    y_und = und(x[~vae_mask_T])  # wait (ar:917, 945, 957, 964, 989, 1005, 1006, 1025)
    y = y_gen.new_empty((x.shape[0], *y_gen.shape[1:]))
    y[vae_mask_T] = y_gen  # wait (ar:918, 946, 958, 965, 992, 1007, 1008, 1028)
    y[~vae_mask_T] = y_und  # wait (ar:917, 945, 957, 964, 990, 1005, 1006, 1026)
    return y


def route_by_rows(x: Tensor, und_rows: Tensor | None, gen_rows: Tensor | None, und: Expert, gen: Expert) -> Tensor:
    """Both weight sets over rows given as device index tensors; does not wait. The denoise loop routes like this."""
    assert und_rows is not None and gen_rows is not None
    y_und, y_gen = und(x[und_rows]), gen(x[gen_rows])
    y = torch.empty((x.shape[0], *y_gen.shape[1:]), dtype=y_gen.dtype, device=x.device)
    y[und_rows] = y_und
    y[gen_rows] = y_gen
    return y
