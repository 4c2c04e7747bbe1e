"""Component ``step_input`` as upstream: the sequence is allocated by a device sum, the time checked by ``unique``.

Places name vLLM-Omni's vllm_omni/diffusion/models/bagel/bagel_transformer.py at commit eb4e60ee ("bt").
Suffixes: N latent tokens, C latent channels (64), T rows of the query block, D model width.
"""

from __future__ import annotations

from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import Embedder, Step
from bagel_perf.subjects.bagel.model.layout import QueryLayout


def step_input(model: Embedder, latents_NC: Tensor, step: Step, layout: QueryLayout) -> Tensor:
    """Start marker, noisy latents, end marker, embedded as bf16 [N + 2, D]; waits twice."""
    markers_2D = model.embed_markers()
    packed_TD = markers_2D.new_zeros((sum(layout.sequence.device_B), markers_2D.shape[1]))  # wait (bt:2422)
    packed_TD[layout.marker_rows] = markers_2D
    assert step.t_N.unique().shape[0] == 1  # wait (bt:2425)
    packed_TD[layout.latent_rows] = model.embed_latents(latents_NC, step.t_N, layout.latent_position_ids_N)
    return packed_TD
