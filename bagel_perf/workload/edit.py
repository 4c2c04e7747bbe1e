"""A BAGEL request as a subject of the harness: host inputs, stage ``ar``, stage ``dit``, PNG bytes.

Suffixes: N latent tokens, C latent channels (64).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from bagel_perf.harness.measure import Stage, Subject
from bagel_perf.harness.syncs import allow_sync
from bagel_perf.model.bagel import Bagel
from bagel_perf.model.config import BagelConfig
from bagel_perf.model.contracts import Slots
from bagel_perf.model.denoise import Sampling, prepare, render
from bagel_perf.model.guidance import GuidanceScales
from bagel_perf.model.prefill import ContextCache, PictureInput, prefill
from bagel_perf.model.preprocess import draw_default_picture, load_picture, vae_pixels, vit_pixels
from bagel_perf.model.tokenizer import tokenize
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.requests import Guidance, Request
from bagel_perf.workload.pictures import encode_png
from kernels_baseline.picture import download_picture


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInputs:
    """Everything a request brings along, on the host."""

    prompt_ids: list[int]
    picture: PictureInput | None
    noise_NC: Tensor
    sampling: Sampling


def request_inputs(
    request: Request,
    config: BagelConfig,
    weights: Path | None,
    seed: int,
    encoded: Callable[[Image.Image, int], Tensor] = vit_pixels,
) -> RequestInputs:
    """Tokens, pixels and noise of a request; the noise of the encoding is drawn before that of the latents.

    ``encoded`` makes what the image encoder takes of a picture and the encoder's side.
    """
    generator = torch.Generator().manual_seed(seed)
    picture = _picture_input(request, config, generator, encoded) if request.task == "i2i" else None
    num_channels = config.autoencoder.z_channels * config.latent_patch**2
    grid = _grid(request, config)
    return RequestInputs(
        prompt_ids=tokenize(request.prompt, config, weights),
        picture=picture,
        noise_NC=torch.randn(grid[0] * grid[1], num_channels, generator=generator),
        sampling=Sampling(
            grid=grid, num_timesteps=request.steps, shift=request.timestep_shift, scales=_scales(request.guidance)
        ),
    )


def _picture_input(
    request: Request, config: BagelConfig, generator: torch.Generator, encoded: Callable[[Image.Image, int], Tensor]
) -> PictureInput:
    width, height = request.width, request.height
    image = load_picture(Path(request.image)) if request.image else draw_default_picture(width, height)
    down = config.autoencoder.downsample
    shape = (1, config.autoencoder.z_channels, height // down, width // down)
    return PictureInput(
        vae_pixels=vae_pixels(image, width, height),
        vit_pixels=encoded(image, config.vit.image_size),
        noise=torch.randn(shape, generator=generator),
    )


def _grid(request: Request, config: BagelConfig) -> tuple[int, int]:
    pixels = config.autoencoder.downsample * config.latent_patch
    grid = request.height // pixels, request.width // pixels
    if max(grid) > config.max_latent_size:
        raise UsageError(
            "resolution is too large for the checkpoint",
            value=f"{request.width}x{request.height}",
            allowed=f"at most {config.max_latent_size * pixels} a side, as its latent position table has it",
            remedy="use a smaller --res",
        )
    return grid


def _scales(guidance: Guidance) -> GuidanceScales:
    return GuidanceScales(
        text_scale=guidance.text_scale,
        image_scale=guidance.image_scale,
        interval=guidance.interval,
        renorm=guidance.renorm,
        renorm_min=guidance.renorm_min,
    )


def edit_subject(model: Bagel, inputs: RequestInputs, slots: Slots) -> Subject:
    """Stage ``ar`` from host inputs to KV ready, stage ``dit`` from noise to PNG bytes."""

    def ar(_: None) -> ContextCache:
        with torch.no_grad(), model.attention.scope():
            return prefill(model, inputs.prompt_ids, inputs.picture, slots)

    def dit(cache: ContextCache) -> bytes:
        with torch.no_grad(), model.attention.scope():
            state = prepare(model, cache, inputs.noise_NC, inputs.sampling, slots)
            latents_NC = slots.denoise_loop(state, slots)
            pixels = render(model, latents_NC, inputs.sampling.grid, slots)
            with allow_sync("the picture has to reach the host"):
                pixels_HW3 = download_picture(pixels)
            return encode_png(pixels_HW3)

    return Subject(stages=(Stage(name="ar", run=ar), Stage(name="dit", run=dit)))
