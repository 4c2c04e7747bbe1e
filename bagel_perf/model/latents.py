"""Latents as a grid of patches and back.

Suffixes: N latent tokens, C channels of a patch (64), z channels of the autoencoder, p patch side.
"""

from __future__ import annotations

from torch import Tensor

PATCH = 2


def patchify_latents(latent: Tensor) -> Tensor:
    """[1, z, p h, p w] to [h w, p p z], row by row, channels fastest within a patch (reference/bagel.md A4)."""
    _, channels, height, width = latent.shape
    grid = latent.view(channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return grid.permute(1, 3, 2, 4, 0).reshape(-1, PATCH * PATCH * channels)


def unpack_latents(latents_NC: Tensor, height: int, width: int) -> Tensor:
    """[height width, p p z] to [1, z, p height, p width]: the inverse of ``patchify_latents``."""
    grid = latents_NC.view(height, width, PATCH, PATCH, -1)
    return grid.permute(4, 0, 2, 1, 3).reshape(1, -1, height * PATCH, width * PATCH)
