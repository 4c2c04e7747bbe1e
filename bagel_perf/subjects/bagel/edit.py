"""A BAGEL request as a subject: host inputs, stage ``ar``, stage ``dit``, and the picture as PNG bytes.

Suffixes: N latent tokens, C latent channels (64).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bagel_perf.measure.outputs import Distance
from bagel_perf.measure.stages import Stage, Subject
from bagel_perf.records.bagel import Guidance, Request
from bagel_perf.records.errors import UsageError
from bagel_perf.records.runs import Output
from bagel_perf.subjects.bagel.model.bagel import Bagel
from bagel_perf.subjects.bagel.model.config import BagelConfig
from bagel_perf.subjects.bagel.model.contracts import Components
from bagel_perf.subjects.bagel.model.denoise import GuidanceScales, Sampling, prepare, render
from bagel_perf.subjects.bagel.model.prefill import ContextCache, PictureInput, prefill
from bagel_perf.subjects.bagel.model.preprocess import (
    draw_default_picture,
    load_picture,
    tokenize,
    vae_pixels,
    vit_pixels,
)
from bagel_perf.subjects.bagel.png import encode_png
from bagel_perf.syncs import allow_sync
from kernels_baseline.picture import download_picture


def describe_picture(png: bytes) -> Output:
    """Describes a PNG: hashes, size, and spread (standard deviation in grey levels)."""
    pixels = read_pixels(png)
    return Output(
        kind="picture",
        md5=hashlib.md5(png).hexdigest(),
        sha256=hashlib.sha256(pixels.tobytes()).hexdigest(),
        shape=pixels.shape,
        num_values=pixels.shape[0] * pixels.shape[1],
        spread=float(pixels.std()),
        is_flat=bool((pixels == pixels[0, 0]).all()),
    )


def read_pixels(png: bytes) -> NDArray[np.uint8]:
    """Pixels [H, W, 3] of a PNG."""
    return np.asarray(Image.open(io.BytesIO(png)))


def distance(png: bytes, reference: bytes) -> Distance:
    """Of two PNGs of one size."""
    ours, theirs = (read_pixels(each).astype(np.float64) for each in (png, reference))
    return Distance(raw=float(np.square(ours - theirs).mean()), num_differing=int((ours != theirs).any(axis=-1).sum()))


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
    image: Image.Image | None = None,
) -> RequestInputs:
    """Tokens, pixels and noise of a request; the noise of the encoding is drawn before that of the latents.

    ``encoded`` makes what the image encoder takes of a picture and the encoder's side. ``image`` (RGB) is the picture
    to edit where it was read already.
    """
    generator = torch.Generator().manual_seed(seed)
    picture = _picture_input(request, config, generator, encoded, image) if request.task == "i2i" else None
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
    request: Request,
    config: BagelConfig,
    generator: torch.Generator,
    encoded: Callable[[Image.Image, int], Tensor],
    image: Image.Image | None,
) -> PictureInput:
    width, height = request.width, request.height
    if image is None:
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


def edit_subject(model: Bagel, inputs: RequestInputs, components: Components) -> Subject:
    """Stage ``ar`` from host inputs to KV ready, stage ``dit`` from noise to PNG bytes."""

    def ar(_: None) -> ContextCache:
        with torch.no_grad(), model.attention.scope():
            return prefill(model, inputs.prompt_ids, inputs.picture, components)

    def dit(cache: ContextCache) -> bytes:
        with torch.no_grad(), model.attention.scope():
            state = prepare(model, cache, inputs.noise_NC, inputs.sampling, components)
            latents_NC = components.denoise_loop(state, components)
            pixels = render(model, latents_NC, inputs.sampling.grid, components)
            with allow_sync("the picture has to reach the host"):
                pixels_HW3 = download_picture(pixels)
            return encode_png(pixels_HW3.numpy())

    return Subject(stages=(Stage(name="ar", run=ar), Stage(name="dit", run=dit)))
