"""The kernels of ``approx_norm`` are within two bf16 steps of a norm in fp64, and give the same bits each time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import kernels_baseline
from bagel_perf.subjects.bagel.model.contracts import GroupNorm
from kernels_optimized.approx_norm import normalize

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

LAST, FIRST = torch.channels_last, torch.contiguous_format
SMALLEST = 2.0**-10
"""Values nearer to zero than this are held to its bf16 steps."""


def values(*shape: int, seed: int, mean: float = 0.0, std: float = 1.0) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(seed)
    return mean + std * torch.randn(shape, generator=generator, device="cuda")


def picture(
    channels: int, height: int, width: int, dtype: torch.dtype = torch.bfloat16, mean: float = 0.0, std: float = 1.0
) -> Tensor:
    """Channels last, with means and deviations that differ between channels."""
    x = values(1, channels, height, width, seed=1, std=std) * (1 + 0.2 * values(1, channels, 1, 1, seed=2))
    x += mean + 0.3 * std * values(1, channels, 1, 1, seed=3)
    return x.to(dtype).contiguous(memory_format=LAST)


def norm_of(channels: int) -> GroupNorm:
    weight, bias = 1 + 0.1 * values(channels, seed=4), 0.1 * values(channels, seed=5)
    return GroupNorm(weight=weight, bias=bias, num_groups=32, eps=1e-6)


def exact(x: Tensor, norm: GroupNorm, activate: bool) -> Tensor:
    normed = F.group_norm(x.double(), norm.num_groups, norm.weight.double(), norm.bias.double(), norm.eps)
    return F.silu(normed) if activate else normed


def steps_apart(actual: Tensor, expected: Tensor, slack: float = 0.0) -> float:
    """Largest difference, in steps of bf16 at the expected value, beyond an absolute slack."""
    step = torch.exp2(expected.abs().clamp_min(SMALLEST).log2().floor() - 7)
    return float((((actual.double() - expected).abs() - slack) / step).max())


def relative_l2(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("activate", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("memory_format", [LAST, FIRST])
@pytest.mark.parametrize("channels", [64, 128, 256, 512])
@pytest.mark.parametrize(("height", "width"), [(33, 47), (1, 1), (5, 1), (64, 64), (301, 203)])
def test_the_result_is_the_norm_rounded_to_bf16(
    activate: bool, dtype: torch.dtype, memory_format: torch.memory_format, channels: int, height: int, width: int
) -> None:
    x, norm = picture(channels, height, width, dtype).contiguous(memory_format=memory_format), norm_of(channels)
    before = x.clone()
    actual = normalize.norm_activate(x, norm, activate=activate)
    expected = exact(x, norm, activate)
    assert actual.dtype == torch.bfloat16 and actual.shape == x.shape
    assert actual.is_contiguous(memory_format=memory_format)
    assert steps_apart(actual, expected) < 2 and relative_l2(actual, expected) < 1e-2
    assert torch.equal(x, before)


@pytest.mark.parametrize(("channels", "side"), [(128, 1024), (256, 512), (512, 128)])
def test_it_is_close_to_the_baseline_at_the_released_shapes(channels: int, side: int) -> None:
    x, norm = picture(channels, side, side), norm_of(channels)
    actual = normalize.norm_activate(x, norm, activate=True)
    expected = kernels_baseline.COMPONENTS.norm_activate(x, norm, activate=True).bfloat16()
    assert relative_l2(actual, expected) < 1e-3
    assert steps_apart(actual, expected.double()) <= 2


@pytest.mark.parametrize("channels", [128, 256, 512])
def test_two_runs_give_the_same_bits(channels: int) -> None:
    x, norm = picture(channels, 301, 203), norm_of(channels)
    first, second = (normalize.norm_activate(x, norm, activate=True) for _ in range(2))
    assert torch.equal(first.view(torch.int16), second.view(torch.int16))


@pytest.mark.parametrize("channels", [128, 512])
def test_a_large_mean_does_not_cancel(channels: int) -> None:
    """As a sum of squares less the square of the mean would; the mean itself is fp32, in steps of 6e-5."""
    x, norm = picture(channels, 301, 203, torch.float32, mean=1000.0), norm_of(channels)
    actual = normalize.norm_activate(x, norm, activate=False)
    assert steps_apart(actual, exact(x, norm, activate=False), slack=3e-4) < 2


def test_a_first_value_far_from_the_others_does_not_cancel() -> None:
    x, norm = picture(128, 301, 203, torch.float32), norm_of(128)
    x[0, :, 0, 0] = 1e4
    actual = normalize.norm_activate(x, norm, activate=False)
    assert steps_apart(actual, exact(x, norm, activate=False), slack=1e-4) < 2


@pytest.mark.parametrize("special", [float("nan"), float("inf")])
def test_what_is_not_finite_spoils_its_own_group(special: float) -> None:
    x, norm = picture(128, 33, 47), norm_of(128)
    x[0, 5, 30, 40] = special
    is_nan = normalize.norm_activate(x, norm, activate=True).isnan()[0].unflatten(0, (32, 4))
    assert is_nan[1].all() and not is_nan[0].any() and not is_nan[2:].any()


def test_a_flat_picture_gives_the_bias() -> None:
    x, norm = torch.full((1, 128, 33, 47), 3.0, device="cuda", dtype=torch.bfloat16), norm_of(128)
    actual = normalize.norm_activate(x, norm, activate=False)
    assert torch.equal(actual, norm.bias.bfloat16()[None, :, None, None].expand_as(actual))


def test_very_negative_values_are_activated_to_zero() -> None:
    x, norm = picture(128, 33, 47), norm_of(128)
    far = GroupNorm(weight=norm.weight, bias=norm.bias - 1e4, num_groups=32, eps=1e-6)
    assert not normalize.norm_activate(x, far, activate=True).any()


def test_nothing_waits() -> None:
    x, norm = picture(256, 64, 64), norm_of(256)
    normalize.norm_activate(x, norm, activate=True)
    try:
        torch.cuda.set_sync_debug_mode("error")
        normalize.norm_activate(x, norm, activate=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
