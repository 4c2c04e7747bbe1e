"""Component ``encode_picture`` as upstream, and the picture's way to the host, which every variant shares.

Places name vLLM-Omni's vllm_omni/diffusion/models/bagel/pipeline_bagel.py at commit eb4e60ee ("pb").
"""

from __future__ import annotations

from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import PictureEncoding
from bagel_perf.subjects.bagel.model.primitives import norm_activate


def encode_picture(picture: PictureEncoding) -> tuple[Tensor, Tensor]:
    """Encodes latents, then patches, once for both contexts that show them; does not wait."""
    return picture.latents(norm_activate), picture.patches()


def download_picture(pixels_HW3: Tensor) -> Tensor:
    """Pixels uint8 [H, W, 3] on the host; waits once, the one wait that a request cannot do without."""
    return pixels_HW3.cpu()  # wait (pb:320)
