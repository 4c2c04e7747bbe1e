"""Guidance follows reference/bagel.md D2, and rounds where A7 says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.denoise import GuidanceScales, Renorm, guide


def scales(renorm: Renorm, *, image: float = 2.0, renorm_min: float = 0.0) -> GuidanceScales:
    return GuidanceScales(text_scale=4.0, image_scale=image, interval=(0.0, 1.0), renorm=renorm, renorm_min=renorm_min)


def velocities(num_branches: int) -> Tensor:
    return torch.randn(num_branches, 6, 64, generator=torch.Generator().manual_seed(1))


def expected(v: Any, renorm: Renorm, renorm_min: float) -> Any:
    """The formulas in fp64, written out branch by branch."""
    g, u, w = v.double()
    a = u + 4.0 * (g - u)
    if renorm == "text_channel":
        k = (g.norm(dim=-1, keepdim=True) / a.norm(dim=-1, keepdim=True)).clamp(renorm_min, 1)
        return w + 2.0 * (a * k - w)
    b = w + 2.0 * (a - w)
    dim = -1 if renorm == "channel" else None
    k = (g.norm(dim=dim, keepdim=True) / b.norm(dim=dim, keepdim=True)).clamp(renorm_min, 1)
    return b * k


@pytest.mark.parametrize("renorm", ["global", "channel", "text_channel"])
@pytest.mark.parametrize("renorm_min", [0.0, 0.9])
def test_three_branches_combine_as_the_formulas_say(renorm: Renorm, renorm_min: float) -> None:
    v = velocities(3)
    torch.testing.assert_close(
        guide(v, scales(renorm, renorm_min=renorm_min)).double(), expected(v, renorm, renorm_min), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("renorm", "dtype"), [("global", torch.bfloat16), ("channel", torch.float32), ("text_channel", torch.float32)]
)
def test_only_the_per_token_renormalizations_promote_to_fp32(renorm: Renorm, dtype: torch.dtype) -> None:
    assert guide(velocities(3).bfloat16(), scales(renorm)).dtype == dtype


def test_one_branch_is_the_main_velocity_untouched() -> None:
    v = velocities(1).bfloat16()
    assert torch.equal(guide(v, scales("global")), v[0])


def test_renormalization_never_amplifies() -> None:
    v = velocities(3)
    v[1:] = v[0] * 0.99
    guided = guide(v, scales("channel"))
    assert bool((guided.norm(dim=-1) <= v[0].norm(dim=-1) * 1.0001).all())


@pytest.mark.parametrize(("text", "image", "branches"), [(4.0, 2.0, 3), (4.0, 1.0, 2), (1.0, 2.0, 1), (1.0, 1.0, 1)])
def test_the_image_scale_alone_adds_no_branch(text: float, image: float, branches: int) -> None:
    scale = GuidanceScales(text_scale=text, image_scale=image, interval=(0, 1), renorm="global", renorm_min=0)
    assert scale.num_branches == branches
