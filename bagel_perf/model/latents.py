"""Latents as a picture and as tokens: 2x2 positions make one token, channels fastest.

Suffixes: C channels, P and Q the two positions of a patch, N tokens.
"""

from __future__ import annotations

from torch import Tensor

PATCH = 2


def patchify_latents(latent_1CHW: Tensor) -> Tensor:
    """[1, C, 2h, 2w] -> [N, 4C] with N = h w in row-major order and columns (p, q, c) (reference/bagel.md A4)."""
    _, num_channels, height, width = latent_1CHW.shape
    latent_CHPWQ = latent_1CHW.reshape(num_channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return latent_CHPWQ.permute(1, 3, 2, 4, 0).reshape(-1, PATCH * PATCH * num_channels)


def unpack_latents(latents_NC: Tensor, rows: int, cols: int) -> Tensor:
    """[N, 4C] -> [1, C, 2 rows, 2 cols], the inverse of ``patchify_latents`` (reference/bagel.md D4)."""
    latents_HWPQC = latents_NC.reshape(rows, cols, PATCH, PATCH, -1)
    return latents_HWPQC.permute(4, 0, 2, 1, 3).reshape(1, -1, PATCH * rows, PATCH * cols)
