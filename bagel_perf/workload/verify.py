"""Runs a golden directory through the real loader and kernels of every rung, and compares tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from msgspec.structs import replace
from torch import Tensor

from bagel_perf.model.autoencoder import decode as decode_latent
from bagel_perf.model.autoencoder import encode_moments, sample_latent, to_uint8
from bagel_perf.model.bagel import Bagel
from bagel_perf.model.contracts import Slots
from bagel_perf.model.denoise import prepare
from bagel_perf.model.latents import unpack_latents
from bagel_perf.model.prefill import ContextCache, PictureInput, prefill
from bagel_perf.schema.events import EnvironmentEvent, Event, ProgressEvent, TensorEvent
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.runs import TensorCheck
from bagel_perf.workload.bind import bind
from bagel_perf.workload.golden import Golden, GoldenCase, read_golden, relative_l2
from bagel_perf.workload.loading import load

KV_LIMIT = 1.5e-2
ENCODER_LIMIT = 2e-2
VELOCITY_LIMIT = 8e-2
LATENT_LIMIT = 4e-2
DECODED_LIMIT = 4e-2
GREY_LEVEL_LIMIT = 2.5
"""Mean absolute difference of uint8 pixels; the other limits are relative L2 norms."""

Check = tuple[str, float, float]
"""(tensor, error, limit)"""


def run_verify(plan: Plan, emit: Callable[[Event], None]) -> None:
    """Sends one TensorEvent per tensor and rung."""
    assert plan.golden is not None
    directory = Path(plan.golden)

    def report(text: str, done: int, total: int) -> None:
        emit(ProgressEvent(text=text, done=done, total=total))

    loaded = load(replace(plan, weights=plan.golden), report)
    golden = read_golden(directory, loaded.model.config)
    emit(EnvironmentEvent(environment=loaded.environment, pairs=0, warmup=0))
    for index, variant in enumerate(plan.variants):
        emit(ProgressEvent(text=f"{variant}: against {directory.name}", done=index, total=len(plan.variants)))
        for tensor, error, limit in check_variant(loaded.model, golden, bind(variant)):
            check = TensorCheck(variant=variant, tensor=tensor, error=error, limit=limit, ok=error <= limit)
            emit(TensorEvent(check=check))


def check_variant(model: Bagel, golden: Golden, slots: Slots) -> Iterator[Check]:
    """Every comparison of one rung, in the order of the computation."""
    picture = golden.picture() if any(case.task == "i2i" for case in golden.cases) else None
    with torch.no_grad(), model.attention.scope():
        if picture is not None:
            yield from _check_encoder(model, golden, picture)
        for task in dict.fromkeys(case.task for case in golden.cases):
            cache = prefill(model, golden.prompt_ids, picture if task == "i2i" else None, slots)
            yield from _check_cache(golden, task, cache)
            for case in golden.cases:
                if case.task == task:
                    yield from _check_integers(case, cache)
                    yield from _check_sampling(model, golden, case, cache, slots)


def _check_encoder(model: Bagel, golden: Golden, picture: PictureInput) -> Iterator[Check]:
    pixels = picture.vae_pixels.to(model.device)[None]
    moments = encode_moments(model.autoencoder, pixels, model.attention)
    yield "vae_encoder_moments", relative_l2(moments, golden.need("vae_encoder_moments")), ENCODER_LIMIT
    latent = sample_latent(model.config.autoencoder, moments, picture.noise.to(model.device))
    yield "vae_latent", relative_l2(latent, golden.need("vae_latent")), ENCODER_LIMIT


def _check_cache(golden: Golden, task: str, cache: ContextCache) -> Iterator[Check]:
    """Every layer of the main context, and of each other context that has a golden tensor at all."""
    for context in cache.contexts:
        prefix = f"{task}.{context.name}."
        if context.name != "main" and not any(name.startswith(prefix) for name in golden.tensors):
            continue
        for index, layer in enumerate(cache.layers):
            for letter, packed in (("k", layer.key_PKE), ("v", layer.value_PKE)):
                name = f"{prefix}{letter}.{index}"
                yield name, relative_l2(packed[context.start : context.stop], golden.need(name)), KV_LIMIT


def _check_integers(case: GoldenCase, cache: ContextCache) -> Iterator[Check]:
    for context, position in zip(cache.contexts, cache.next_positions, strict=True):
        if context.name not in case.kv:
            continue
        yield f"{case.name}.kv_length.{context.name}", abs(context.length - case.kv[context.name]), 0
        yield f"{case.name}.rope.{context.name}", abs(position - case.ropes[context.name]), 0


def _check_sampling(
    model: Bagel, golden: Golden, case: GoldenCase, cache: ContextCache, slots: Slots
) -> Iterator[Check]:
    noise = golden.need(f"{case.name}.init_noise")
    state = prepare(model, cache, noise, case.sampling, slots)
    num_steps = case.sampling.num_timesteps - 1
    yield f"{case.name}.num_steps", abs(golden.num_recorded_steps(case) - num_steps), 0
    for index, step in enumerate(state.steps(slots)):
        fed = golden.need(f"{case.name}.x.{index}").to(model.device)
        expected = golden.need(f"{case.name}.v.{index}")
        yield f"{case.name}.v.{index}", relative_l2(state.velocity(fed, step, slots), expected), VELOCITY_LIMIT
    latents = slots.denoise_loop(state, slots)
    yield f"{case.name}.latent", relative_l2(latents, golden.need(f"{case.name}.latent")), LATENT_LIMIT
    latent = unpack_latents(latents, *case.sampling.grid)
    decoded = decode_latent(model.autoencoder, latent, model.attention, slots.norm_activate)
    yield f"{case.name}.decoded", relative_l2(decoded, golden.need(f"{case.name}.decoded")), DECODED_LIMIT
    yield f"{case.name}.uint8", _grey_levels(to_uint8(decoded), golden.need(f"{case.name}.uint8")), GREY_LEVEL_LIMIT


def _grey_levels(actual_HW3: Tensor, expected_HW3: Tensor) -> float:
    if actual_HW3.shape != expected_HW3.shape:
        return float("inf")
    return (actual_HW3.cpu().float() - expected_HW3.float()).abs().mean().item()
