"""Rounding places of the decoder (reference/bagel.md A6, A7)."""

from __future__ import annotations

import torch

from bagel_perf.subjects.bagel.model.config import LlmConfig
from bagel_perf.subjects.bagel.model.decoder import RmsNorm, by_precision, rotary_tables
from bagel_perf.subjects.bagel.model.layout import PrecisionSpan


def test_rms_norm_rounds_before_the_weight_and_after_it() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 256, generator=generator).bfloat16()
    weight = (1 + 0.3 * torch.randn(256, generator=generator)).bfloat16()
    x32 = x.float()
    once = (x32 * (x32.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.float()).bfloat16()
    twice = (x32 * (x32.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()).bfloat16() * weight
    normed = RmsNorm(weight=weight, eps=1e-6)(x)
    assert torch.equal(normed, twice)
    assert not torch.equal(normed, once)


def test_rms_norm_of_fp32_stays_fp32_under_a_bf16_weight() -> None:
    assert RmsNorm(weight=torch.ones(8, dtype=torch.bfloat16), eps=1e-6)(torch.randn(2, 8)).dtype == torch.float32


def test_rotary_angles_are_fp32_before_they_are_rounded() -> None:
    positions = torch.tensor([0, 1, 300, 9009])
    config = LlmConfig(hidden=64, num_heads=2, num_kv_heads=1, num_layers=1, intermediate=64, vocab=151700)
    cos, sin = rotary_tables(positions, config)
    frequencies = 1e6 ** (-torch.arange(0, 32, 2, dtype=torch.float64) / 32)
    angles = positions[:, None].double() * frequencies
    expected = torch.cat([angles, angles], dim=-1)[:, None]
    assert cos.dtype == sin.dtype == torch.bfloat16
    assert float((cos.double() - expected.cos()).abs().max()) < 5e-3
    assert float((sin.double() - expected.sin()).abs().max()) < 5e-3


def test_each_span_is_given_in_its_precision() -> None:
    seen: list[tuple[int, torch.dtype]] = []

    def note(part: torch.Tensor, span: PrecisionSpan) -> torch.Tensor:
        seen.append((part.shape[0], part.dtype))
        return part.float()

    spans = (PrecisionSpan(start=0, stop=2, exact=True), PrecisionSpan(start=2, stop=5, exact=False))
    out = by_precision(torch.arange(5.0)[:, None], spans, note)
    assert seen == [(2, torch.float32), (3, torch.bfloat16)]
    assert out.flatten().tolist() == [0, 1, 2, 3, 4]
