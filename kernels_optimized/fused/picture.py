"""Components ``encode_picture`` and ``norm_activate``: the autoencoder's norms are kernels, the ViT is issued first.

The ViT keeps the GPU busy while the host issues the many small kernels of the encoder.
"""

from __future__ import annotations

from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import GroupNorm, PictureEncoding
from kernels_optimized.fused import ops


def norm_activate(x_1CHW: Tensor, norm: GroupNorm, *, activate: bool) -> Tensor:
    """Norms and, with ``activate``, activates [1, C, H, W]: bf16 by a kernel, else fp32; does not wait."""
    return ops.norm_activate(x_1CHW, norm, activate=activate)


def encode_picture(picture: PictureEncoding) -> tuple[Tensor, Tensor]:
    """Encodes a picture as latents [N, D] and patches [M, D], bf16; does not wait."""
    patches_MD = picture.patches()
    return picture.latents(norm_activate), patches_MD
