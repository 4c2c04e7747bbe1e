"""The rounding places of reference/bagel.md A7, bit for bit; the golden limits are too wide to see them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.bagel import Bagel, build_bagel
from bagel_perf.subjects.bagel.model.config import preset
from bagel_perf.subjects.bagel.model.contracts import Step
from bagel_perf.subjects.bagel.model.decoder import RmsNorm, Rows, _norm_and_rotate, rotary_tables
from bagel_perf.subjects.bagel.model.denoise import DenoiseState, GuidanceScales, Renorm, Sampling, guide, prepare
from bagel_perf.subjects.bagel.model.layout import PrecisionSpan, Routing
from bagel_perf.subjects.bagel.model.prefill import prefill
from bagel_perf.subjects.bagel.model.weights import RandomSource
from kernels_baseline import COMPONENTS

CPU = torch.device("cpu")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model() -> Bagel:
    source = RandomSource(device=CPU, seed=0)
    return build_bagel(source, source, preset("tiny"), Attention(backend="math", on_cuda=False))


@pytest.fixture(scope="module")
def state(model: Bagel) -> DenoiseState:
    scales = GuidanceScales(text_scale=4.0, image_scale=2.0, interval=(0, 1), renorm="global", renorm_min=0)
    sampling = Sampling(grid=(2, 3), num_timesteps=3, shift=3.0, scales=scales)
    with torch.no_grad():
        cache = prefill(model, [508, 5, 6, 509], None, COMPONENTS)
        return prepare(model, cache, random(6, 64), sampling, COMPONENTS)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x[..., :8], x[..., 8:]
    return x * cos + torch.cat([-high, low], -1) * sin


def test_heads_are_normed_and_rotated_in_the_precision_of_their_row() -> None:
    x = random(5, 2, 16).bfloat16()
    und, gen = (RmsNorm(weight=(1 + random(16, seed=s) / 4).bfloat16(), eps=1e-6) for s in (1, 2))
    config = replace(preset("tiny").llm)
    cos, sin = rotary_tables(torch.tensor([3, 3, 3, 4, 5]), config)
    # A block of latents (marker, patch, marker), then two rows of text.
    rows = Rows(
        routing=Routing(
            num_rows=5, latent_spans=((1, 2),), und_rows=torch.tensor([0, 2, 3, 4]), gen_rows=torch.tensor([1])
        ),
        route=COMPONENTS.route_experts,
        spans=(PrecisionSpan(start=0, stop=3, exact=True), PrecisionSpan(start=3, stop=5, exact=False)),
        und_spans=(PrecisionSpan(start=0, stop=2, exact=True), PrecisionSpan(start=2, stop=4, exact=False)),
        cos_T1E=cos,
        sin_T1E=sin,
    )
    exact = [rotated(norm(x[i].float()), cos[i], sin[i]).bfloat16() for i, norm in ((0, und), (1, gen), (2, und))]
    rounded = [rotated(und(x[i]), cos[i], sin[i]) for i in (3, 4)]
    assert torch.equal(_norm_and_rotate(x, und, gen, rows), torch.stack(exact + rounded))


def test_every_row_of_a_query_block_is_exact(state: DenoiseState) -> None:
    for branches in (state.guided, state.plain):
        num_rows = branches.layout.routing.num_rows
        assert branches.rows.spans == (PrecisionSpan(start=0, stop=num_rows, exact=True),)
        assert branches.rows.und_spans == (PrecisionSpan(start=0, stop=2 * branches.layout.num_branches, exact=True),)


def test_a_bf16_velocity_times_dt_is_rounded_before_the_subtraction(state: DenoiseState) -> None:
    step = Step(t_N=torch.full((6,), 0.9), dt=torch.tensor(0.0731), in_window=True)
    latents = random(6, 64, seed=4)
    with torch.no_grad():
        v = state.velocity(latents, step, COMPONENTS)
        assert v.dtype == torch.bfloat16
        advanced = state.advance(latents, step, COMPONENTS)
    assert torch.equal(advanced, latents - (v.float() * step.dt).bfloat16())
    assert not torch.equal(advanced, latents - v.float() * step.dt)


def test_latent_embeddings_add_the_time_before_the_position(model: Bagel) -> None:
    latents, ids, t = random(6, 64), torch.tensor([0, 1, 2, 64, 65, 66]), torch.full((6,), 0.7)
    with torch.no_grad():
        projected, time = model.latent_in(latents), model.time_embedder(t)
        position = model.latent_positions[ids]
        embedded = model.embed_latents(latents, t, ids)
    assert torch.equal(embedded, (projected + time) + position)
    assert not torch.equal(embedded, projected + (time + position))


@pytest.mark.parametrize("renorm", ["global", "channel", "text_channel"])
def test_two_branches_are_renormalized_too(renorm: Renorm) -> None:
    v = random(2, 6, 64).bfloat16()
    scales = GuidanceScales(text_scale=4.0, image_scale=1.0, interval=(0, 1), renorm=renorm, renorm_min=0.0)
    guided = v[1] + 4.0 * (v[0] - v[1])
    if renorm == "global":
        shrink = v[0].float().norm() / (guided.float().norm() + 1e-8)
    else:
        shrink = v[0].float().norm(dim=-1, keepdim=True) / (guided.float().norm(dim=-1, keepdim=True) + 1e-8)
    assert torch.equal(guide(v, scales), guided * shrink.clamp(0, 1))
