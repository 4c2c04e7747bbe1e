"""The work that a floor is made of is the work that the model does, counted by torch's own counter."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bagel_perf.records.bagel import Guidance, Request, Task
from bagel_perf.subjects.bagel.edit import RequestInputs, request_inputs
from bagel_perf.subjects.bagel.floors import Attend, Gemm, Pointwise, decoder_work, denoising, prefilling
from bagel_perf.subjects.bagel.loading import bind
from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.bagel import Bagel, build_bagel
from bagel_perf.subjects.bagel.model.config import preset
from bagel_perf.subjects.bagel.model.denoise import DenoiseState, prepare
from bagel_perf.subjects.bagel.model.prefill import prefill
from bagel_perf.subjects.bagel.model.weights import RandomSource

aten = torch.ops.aten


@pytest.fixture(scope="module")
def model() -> Bagel:
    source = RandomSource(device=torch.device("cpu"), seed=0)
    return build_bagel(source, source, preset("tiny"), Attention(backend="math", on_cuda=False))


def inputs_of(model: Bagel, task: Task, interval: tuple[float, float] = (0.0, 1.0)) -> RequestInputs:
    guidance = Guidance(interval=interval)
    request = Request(task=task, width=256, height=256, prompt="a b c", steps=4, seed=1, guidance=guidance)
    return request_inputs(request, model.config, None, 1)


def counted(work: Callable[[], object]) -> tuple[float, float]:
    """Operations in matrix products, by torch's counter, and in attention, which it does not know on a CPU."""
    attention: list[float] = []
    attend = F.scaled_dot_product_attention

    def counting(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        attention.append(4.0 * q.shape[1] * q.shape[2] * k.shape[2] * q.shape[3])
        return attend(q, k, v, **options)

    with FlopCounterMode(display=False) as counter, torch.no_grad(), patch.object(F, attend.__name__, counting):
        work()
    counts = counter.get_flop_counts()["Global"]
    return sum(counts.get(op, 0) for op in (aten.mm, aten.addmm)), sum(attention)


def expected(model: Bagel, inputs: RequestInputs, stage: str) -> tuple[float, float]:
    work = list((prefilling if stage == "ar" else denoising)(model, inputs))
    gemms = sum(each.flops for each in work if isinstance(each, Gemm))
    return gemms, sum(each.flops for each in work if isinstance(each, Attend))


def around_the_decoder(model: Bagel, inputs: RequestInputs, state: DenoiseState) -> float:
    """Operations of the linear layers of latents and times, which a floor leaves out: much beside a tiny decoder."""
    width, (num_latents, num_channels) = model.config.llm.hidden, inputs.noise_NC.shape
    embedding = num_latents * width * (num_channels + model.time_embedder.first.weight.shape[1] + width)
    flops = 0.0
    for step in state.steps(bind("sync_free")):
        num_branches = (state.guided if step.in_window else state.plain).layout.num_branches
        flops += 2.0 * (embedding + num_branches * (num_latents + 2) * width * num_channels)
    return flops


@pytest.mark.parametrize(("task", "interval"), [("i2i", (0.0, 1.0)), ("t2i", (0.0, 1.0)), ("i2i", (0.7, 1.0))])
def test_a_denoise_loop_does_the_work_of_its_floor(model: Bagel, task: Task, interval: tuple[float, float]) -> None:
    inputs, components = inputs_of(model, task, interval), bind("sync_free")
    cache = prefill(model, inputs.prompt_ids, inputs.picture, components)
    state = prepare(model, cache, inputs.noise_NC, inputs.sampling, components)
    products, attention = counted(lambda: components.denoise_loop(state, components))
    gemm_flops, attention_flops = expected(model, inputs, "dit")
    assert attention == attention_flops
    assert products - gemm_flops == around_the_decoder(model, inputs, state)


def test_a_shared_prefill_does_the_work_of_its_floor(model: Bagel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernels_optimized.fused.contexts.MIN_SHARED_LATENTS", 1)
    inputs = inputs_of(model, "i2i")
    longer = dataclasses.replace(inputs, prompt_ids=inputs.prompt_ids * 2)

    def products_of(each: RequestInputs) -> float:
        return counted(lambda: prefill(model, each.prompt_ids, each.picture, bind("fused")))[0]

    # Autoencoder and image encoder are the same for both; what the text adds is the decoder's alone.
    added = expected(model, longer, "ar")[0] - expected(model, inputs, "ar")[0]
    assert products_of(longer) - products_of(inputs) == added
    assert products_of(inputs) > expected(model, inputs, "ar")[0]


def test_bytes_of_a_gemm_hold_its_weights_once_a_use() -> None:
    gemm = Gemm("gen GEMMs", 3, 5, 7, 2)
    assert gemm.flops == 2 * 3 * 5 * 7 * 2
    assert gemm.bytes == 2 * 2 * (3 * 5 + 3 * 7 + 5 * 7)


def test_weights_of_both_sets_are_those_of_the_released_shape() -> None:
    """By the shapes of the checkpoint (reference/bagel.md B2)."""
    config = preset("7b").llm
    work = list(decoder_work(config, 1, 1, config.num_layers))
    elements = sum(each.num_in * each.num_out * each.count for each in work if isinstance(each, Gemm))
    per_layer = 3584 * (3584 + 2 * 512) + 3584 * 3584 + 3 * 3584 * 18944
    assert elements == 2 * 28 * per_layer
    assert any(isinstance(each, Pointwise) and each.bytes > 0 for each in work)
