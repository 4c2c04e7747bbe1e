"""Runs a golden directory through the real loader and kernels of every variant, and compares tensor by tensor.

It holds a small checkpoint with the tensors that ByteDance's code computed from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from msgspec.structs import replace
from torch import Tensor

from bagel_perf.records.errors import UsageError
from bagel_perf.records.events import EnvironmentEvent, Event, ProgressEvent, TensorEvent
from bagel_perf.records.plans import Plan
from bagel_perf.records.runs import TensorCheck
from bagel_perf.subjects.bagel.loading import bind, load
from bagel_perf.subjects.bagel.model.autoencoder import decode as decode_latent
from bagel_perf.subjects.bagel.model.autoencoder import encode_moments, sample_latent, to_uint8
from bagel_perf.subjects.bagel.model.bagel import Bagel
from bagel_perf.subjects.bagel.model.checkpoint_files import read_json, reading
from bagel_perf.subjects.bagel.model.config import BagelConfig
from bagel_perf.subjects.bagel.model.contracts import Components
from bagel_perf.subjects.bagel.model.denoise import GuidanceScales, Renorm, Sampling, prepare
from bagel_perf.subjects.bagel.model.prefill import ContextCache, PictureInput, prefill, unpack_latents
from bagel_perf.subjects.bagel.model.primitives import norm_activate

FILES = ("meta.json", "golden.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenCase:
    """One way of sampling; ``task`` names its KV caches, ``kv`` and ``ropes`` the integers that must be equal."""

    name: str
    task: str
    sampling: Sampling
    kv: dict[str, int]
    ropes: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Inputs and expected outputs of a golden directory, all on the host."""

    prompt_ids: list[int]
    tensors: dict[str, Tensor]
    cases: tuple[GoldenCase, ...]

    def picture(self) -> PictureInput:
        """The already transformed input picture, and the noise of its encoding."""
        return PictureInput(
            vae_pixels=self.need("vae_pixels"), vit_pixels=self.need("vit_pixels"), noise=self.need("vae_sample_noise")
        )

    def need(self, name: str) -> Tensor:
        """A tensor that must be there; UsageError otherwise."""
        if name not in self.tensors:
            raise UsageError("golden.safetensors lacks a tensor", value=name, remedy="check the golden directory")
        return self.tensors[name]

    def num_recorded_steps(self, case: GoldenCase) -> int:
        """How many of the case's steps have a recorded input and velocity."""
        count = 0
        while f"{case.name}.x.{count}" in self.tensors and f"{case.name}.v.{count}" in self.tensors:
            count += 1
        return count


def read_golden(directory: Path, config: BagelConfig) -> Golden:
    """Reads ``meta.json`` and ``golden.safetensors``; UsageError where they are missing, unreadable or foreign."""
    missing = [name for name in FILES if not (directory / name).is_file()]
    if missing:
        raise UsageError(
            "not a golden directory",
            value=f"{directory} lacks {', '.join(missing)}",
            allowed="a checkpoint with meta.json and golden.safetensors",
            remedy="name the directory that holds them",
        )
    meta = read_json(directory / "meta.json")
    try:
        prompt_ids = [config.tokens.bos, *map(int, meta["prompt_token_ids"]), config.tokens.eos]
        cases = tuple(_case(name, fields, config) for name, fields in meta["cases"].items())
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            "meta.json lacks or misuses a key", value=str(error), remedy="check the golden directory"
        ) from error
    golden = Golden(prompt_ids=prompt_ids, tensors=_read_tensors(directory / "golden.safetensors"), cases=cases)
    _check_shapes(golden, config)
    return golden


def _check_shapes(golden: Golden, config: BagelConfig) -> None:
    """UsageError where pixels or noise do not fit the checkpoint's sizes."""
    num_channels = config.autoencoder.z_channels * config.latent_patch**2
    for case in golden.cases:
        grid, shape = case.sampling.grid, tuple(golden.need(f"{case.name}.init_noise").shape)
        if shape != (grid[0] * grid[1], num_channels) or max(grid) > config.max_latent_size:
            raise _unfit(f"{case.name}.init_noise", shape, f"[{grid[0] * grid[1]}, {num_channels}]")
    if any(case.task == "i2i" for case in golden.cases):
        sides = golden.need("vit_pixels").shape[1:]
        if any(side % config.vit.patch or not 0 < side <= config.vit.image_size for side in sides):
            allowed = f"sides in steps of {config.vit.patch} up to {config.vit.image_size}"
            raise _unfit("vit_pixels", tuple(golden.need("vit_pixels").shape), allowed)


def _unfit(name: str, shape: tuple[int, ...], allowed: str) -> UsageError:
    value = f"{name} {list(shape)}"
    return UsageError("a golden tensor does not fit the checkpoint", value=value, allowed=allowed)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    with reading(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)


def _case(name: str, fields: dict[str, Any], config: BagelConfig) -> GoldenCase:
    height, width = fields["size"]
    pixels = config.autoencoder.downsample * config.latent_patch
    lower, upper = fields["cfg_interval"]
    if fields["cfg_renorm_type"] not in get_args(Renorm):
        raise ValueError(f"cfg_renorm_type {fields['cfg_renorm_type']}, not one of {', '.join(get_args(Renorm))}")
    scales = GuidanceScales(
        text_scale=float(fields["cfg_text_scale"]),
        image_scale=float(fields["cfg_img_scale"]),
        interval=(float(lower), float(upper)),
        renorm=fields["cfg_renorm_type"],
        renorm_min=float(fields["cfg_renorm_min"]),
    )
    sampling = Sampling(
        grid=(height // pixels, width // pixels),
        num_timesteps=int(fields["num_timesteps"]),
        shift=float(fields["timestep_shift"]),
        scales=scales,
    )
    kv, ropes = ({context: int(values[0]) for context, values in fields[key].items()} for key in ("kv", "ropes"))
    if "main" not in kv or kv.keys() != ropes.keys():
        raise ValueError(f"kv and ropes of {name} must name the same contexts, main among them")
    return GoldenCase(name=name, task=name.split("_")[0], sampling=sampling, kv=kv, ropes=ropes)


def relative_l2(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected; infinite for another shape or a NaN."""
    if actual.shape != expected.shape:
        return float("inf")
    actual64, expected64 = actual.detach().cpu().double(), expected.double()
    error = (torch.linalg.vector_norm(actual64 - expected64) / torch.linalg.vector_norm(expected64)).item()
    return error if error == error else float("inf")


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
    """Sends one TensorEvent per tensor and variant."""
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


def check_variant(model: Bagel, golden: Golden, components: Components) -> Iterator[Check]:
    """Every comparison of one variant, in the order of the computation."""
    picture = golden.picture() if any(case.task == "i2i" for case in golden.cases) else None
    with torch.no_grad(), model.attention.scope():
        if picture is not None:
            yield from _check_encoder(model, golden, picture)
        for task in dict.fromkeys(case.task for case in golden.cases):
            cache = prefill(model, golden.prompt_ids, picture if task == "i2i" else None, components)
            yield from _check_cache(golden, task, cache)
            for case in golden.cases:
                if case.task == task:
                    yield from _check_integers(case, cache)
                    yield from _check_sampling(model, golden, case, cache, components)


def _check_encoder(model: Bagel, golden: Golden, picture: PictureInput) -> Iterator[Check]:
    pixels = picture.vae_pixels.to(model.device)[None]
    moments = encode_moments(model.autoencoder, pixels, model.attention, norm_activate)
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
    model: Bagel, golden: Golden, case: GoldenCase, cache: ContextCache, components: Components
) -> Iterator[Check]:
    noise = golden.need(f"{case.name}.init_noise")
    state = prepare(model, cache, noise, case.sampling, components)
    num_steps = case.sampling.num_timesteps - 1
    yield f"{case.name}.num_steps", abs(golden.num_recorded_steps(case) - num_steps), 0
    for index, step in enumerate(state.steps(components)):
        fed = golden.need(f"{case.name}.x.{index}").to(model.device)
        expected = golden.need(f"{case.name}.v.{index}")
        yield f"{case.name}.v.{index}", relative_l2(state.velocity(fed, step, components), expected), VELOCITY_LIMIT
    latents = components.denoise_loop(state, components)
    yield f"{case.name}.latent", relative_l2(latents, golden.need(f"{case.name}.latent")), LATENT_LIMIT
    latent = unpack_latents(latents, *case.sampling.grid)
    decoded = decode_latent(model.autoencoder, latent, model.attention, components.norm_activate)
    yield f"{case.name}.decoded", relative_l2(decoded, golden.need(f"{case.name}.decoded")), DECODED_LIMIT
    yield f"{case.name}.uint8", _grey_levels(to_uint8(decoded), golden.need(f"{case.name}.uint8")), GREY_LEVEL_LIMIT


def _grey_levels(actual_HW3: Tensor, expected_HW3: Tensor) -> float:
    if actual_HW3.shape != expected_HW3.shape:
        return float("inf")
    return (actual_HW3.cpu().float() - expected_HW3.float()).abs().mean().item()
