"""The picture's way to the host, which every variant shares: the one wait that a request cannot do without.

Places name vLLM-Omni's vllm_omni/diffusion/models/bagel/pipeline_bagel.py at commit eb4e60ee ("pb").
"""

from __future__ import annotations

from torch import Tensor


def download_picture(pixels_HW3: Tensor) -> Tensor:
    """Pixels uint8 [H, W, 3] on the host; waits once."""
    return pixels_HW3.cpu()  # wait (pb:320)
