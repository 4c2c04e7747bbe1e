"""Classifier-free guidance over three velocities, with the renormalizations of reference/bagel.md D2.

Suffixes: B branches, N latent tokens, C latent channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Renorm = Literal["global", "channel", "text_channel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidanceScales:
    """Scales, renormalization, and the times at which guidance applies: lower < t <= upper."""

    text_scale: float
    image_scale: float
    interval: tuple[float, float]
    renorm: Renorm
    renorm_min: float

    @property
    def num_branches(self) -> int:
        """How many velocities a guided step needs: main, without the text, without the picture."""
        if self.text_scale <= 1:
            return 1
        return 3 if self.image_scale > 1 else 2


def guide(v_BNC: Tensor, scales: GuidanceScales) -> Tensor:
    """The guided velocity [N, C] of bf16 velocities in the order main, cfg_text, cfg_img.

    "global" scales by one number and stays bf16; the per-token renormalizations promote to fp32.
    """
    main = v_BNC[0]
    if v_BNC.shape[0] == 1:
        return main
    guided = v_BNC[1] + scales.text_scale * (main - v_BNC[1])
    if scales.renorm == "text_channel":
        guided = _renormalize(guided, main, scales, dim=-1)
    if v_BNC.shape[0] == 3:
        guided = v_BNC[2] + scales.image_scale * (guided - v_BNC[2])
    if scales.renorm == "text_channel":
        return guided
    return _renormalize(guided, main, scales, dim=-1 if scales.renorm == "channel" else None)


def _renormalize(guided: Tensor, main: Tensor, scales: GuidanceScales, dim: int | None) -> Tensor:
    """Shrinks ``guided`` to the norm of ``main``, per token (dim -1) or over all elements (None); norms in fp32."""
    norms = [torch.linalg.vector_norm(v.float(), dim=dim, keepdim=dim is not None) for v in (main, guided)]
    shrink: Tensor = (norms[0] / (norms[1] + 1e-8)).clamp(min=scales.renorm_min, max=1.0)
    return guided * shrink
