"""Component ``norm_activate`` without kernels: PyTorch's own operators, bit for bit, under every variant."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bagel_perf.subjects.bagel.loading import VARIANTS
from bagel_perf.subjects.bagel.model.contracts import GroupNorm
from kernels_optimized.approx_norm import normalize
from kernels_optimized.fused import ops

C = 64


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def norm() -> GroupNorm:
    return GroupNorm(weight=1 + 0.1 * random(C, seed=1), bias=random(C, seed=2), num_groups=32, eps=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("activate", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_the_component_is_group_norm_and_silu_in_fp32(
    norm: GroupNorm, variant: str, activate: bool, dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    x = random(1, C, 5, 7, seed=3).to(dtype).contiguous(memory_format=memory_format)
    before = x.clone()
    expected = F.group_norm(x.float(), 32, norm.weight, norm.bias, 1e-6)
    if activate:
        expected = F.silu(expected)
    actual = VARIANTS[variant].norm_activate(x, norm, activate=activate)
    assert actual.dtype == torch.float32
    assert torch.equal(actual, expected) and torch.equal(x, before)


@pytest.mark.parametrize(
    ("shape", "num_groups", "dtype", "is_covered"),
    [
        ((1, 128, 33, 47), 32, torch.bfloat16, True),
        ((1, 512, 1, 1), 32, torch.float32, True),
        ((1, 384, 8, 8), 32, torch.bfloat16, False),
        ((1, 32, 8, 8), 32, torch.bfloat16, False),
        ((1, 96, 8, 8), 24, torch.bfloat16, False),
        ((2, 128, 8, 8), 32, torch.bfloat16, False),
        ((1, 128, 0, 8), 32, torch.bfloat16, False),
        ((1, 128, 8, 8), 32, torch.float16, False),
    ],
)
def test_the_kernels_cover_pictures_of_groups_that_are_powers_of_two(
    shape: tuple[int, ...], num_groups: int, dtype: torch.dtype, is_covered: bool
) -> None:
    assert normalize.covers(torch.empty(shape, dtype=dtype), num_groups) == is_covered


def test_a_norm_has_groups_and_eps_of_its_own(norm: GroupNorm) -> None:
    x = random(1, C, 5, 7, seed=3)
    for other in (replace(norm, num_groups=16), replace(norm, eps=1e-2)):
        expected = F.group_norm(x, other.num_groups, norm.weight, norm.bias, other.eps)
        assert torch.equal(VARIANTS["baseline"].norm_activate(x, other, activate=False), expected)


@pytest.mark.parametrize(
    ("shape", "num_groups", "dtype", "is_covered"),
    [
        ((1, 128, 32, 16), 32, torch.bfloat16, True),
        ((1, 512, 8, 4), 32, torch.bfloat16, True),
        ((1, 512, 5, 5), 32, torch.bfloat16, False),
        ((1, 192, 64, 64), 32, torch.bfloat16, False),
        ((1, 32, 64, 64), 32, torch.bfloat16, False),
        ((1, 128, 32, 16), 48, torch.bfloat16, False),
        ((2, 128, 32, 16), 32, torch.bfloat16, False),
        ((1, 128, 0, 16), 32, torch.bfloat16, False),
        ((1, 128, 32, 16), 32, torch.float32, False),
    ],
)
def test_the_bitwise_kernel_covers_groups_that_512_threads_share_evenly(
    shape: tuple[int, ...], num_groups: int, dtype: torch.dtype, is_covered: bool
) -> None:
    x = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
    assert ops._covers(x, num_groups) is is_covered
    if is_covered:
        assert not ops._covers(x.contiguous(), num_groups)
