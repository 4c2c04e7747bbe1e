"""A golden directory: a small checkpoint with the tensors that ByteDance's code computed from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from bagel_perf.model.checkpoint_files import read_json, reading
from bagel_perf.model.config import BagelConfig
from bagel_perf.model.denoise import Sampling
from bagel_perf.model.guidance import GuidanceScales, Renorm
from bagel_perf.model.prefill import PictureInput
from bagel_perf.schema.errors import UsageError

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
