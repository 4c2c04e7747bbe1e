"""Component ``denoise_loop`` without waits: the result is split into pictures by the host's copy of the lengths.

Suffixes: N latent tokens, C latent channels (64).
"""

from __future__ import annotations

from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import Components, Denoising


def denoise_loop(state: Denoising, components: Components) -> Tensor:
    """Clean latents, fp32 [N, 64]."""
    latents_NC = state.noise_NC
    for step in state.steps(components):
        latents_NC = state.advance(latents_NC, step, components)
    return first_picture(latents_NC, state)


def first_picture(latents_NC: Tensor, state: Denoising) -> Tensor:
    """The latents of the one picture of a request."""
    lengths = [length - 2 for length in state.sequence.host]
    pictures: tuple[Tensor, ...] = latents_NC.split(lengths)
    return pictures[0]
