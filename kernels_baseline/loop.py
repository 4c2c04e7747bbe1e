"""Component ``denoise_loop`` as upstream: the result is split into pictures by lengths read from the device.

Places name vLLM-Omni's vllm_omni/diffusion/models/bagel/bagel_transformer.py at commit eb4e60ee ("bt").
Suffixes: N latent tokens, C latent channels (64).
"""

from __future__ import annotations

from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import Components, Denoising


def denoise_loop(state: Denoising, components: Components) -> Tensor:
    """Clean latents, fp32 [N, 64]; waits once at its end."""
    latents_NC = state.noise_NC
    for step in state.steps(components):
        latents_NC = state.advance(latents_NC, step, components)
    lengths = state.sequence.device_B - 2
    pictures: tuple[Tensor, ...] = latents_NC.split(lengths.tolist())  # wait (bt:2044)
    return pictures[0]
