"""The autoencoder: against golden vectors, and its layouts and scales."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.autoencoder import (
    Autoencoder,
    build_autoencoder,
    decode,
    encode_moments,
    sample_latent,
    to_uint8,
)
from bagel_perf.subjects.bagel.model.config import AutoencoderConfig, config_from_directory, preset
from bagel_perf.subjects.bagel.model.prefill import patchify_latents, unpack_latents
from bagel_perf.subjects.bagel.model.primitives import norm_activate
from bagel_perf.subjects.bagel.model.weights import RandomSource, open_checkpoint
from kernels_baseline import COMPONENTS

ATTENTION = Attention(backend="math", on_cuda=False)
NORM = COMPONENTS.norm_activate
CPU = torch.device("cpu")
CASES = ("i2i_text_channel", "i2i_global_interval", "i2i_channel", "t2i_global")


@pytest.fixture(scope="module")
def autoencoder(golden_dir: Path) -> Autoencoder:
    config = config_from_directory(golden_dir)
    with open_checkpoint(golden_dir, config, CPU, lambda done, total: None) as (_, source):
        return build_autoencoder(source, config.autoencoder)


def relative_l2(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def random_latent(rows: int, cols: int, seed: int = 0) -> Tensor:
    return torch.randn(1, 16, rows, cols, generator=torch.Generator().manual_seed(seed))


def test_moments_are_those_of_the_golden_vectors(autoencoder: Autoencoder, golden: dict[str, Tensor]) -> None:
    moments = encode_moments(autoencoder, golden["vae_pixels"][None], ATTENTION, norm_activate)
    assert moments.dtype == torch.bfloat16
    assert relative_l2(moments, golden["vae_encoder_moments"]) < 2e-2


def test_the_latent_is_bitwise_that_of_the_golden_vectors(autoencoder: Autoencoder, golden: dict[str, Tensor]) -> None:
    latent = sample_latent(autoencoder.config, golden["vae_encoder_moments"], golden["vae_sample_noise"])
    assert latent.dtype == torch.float32
    assert torch.equal(latent, golden["vae_latent"])


@pytest.mark.parametrize("case", CASES)
def test_pictures_are_those_of_the_golden_vectors(
    autoencoder: Autoencoder, golden: dict[str, Tensor], case: str
) -> None:
    expected, picture = golden[f"{case}.decoded"], golden[f"{case}.uint8"]
    rows, cols = expected.shape[2] // 16, expected.shape[3] // 16
    decoded = decode(autoencoder, unpack_latents(golden[f"{case}.latent"], rows, cols), ATTENTION, NORM)
    assert decoded.dtype == torch.bfloat16
    assert relative_l2(decoded, expected) < 4e-2
    assert float((to_uint8(decoded).float() - picture.float()).abs().mean()) < 2.5
    assert torch.equal(to_uint8(expected), picture)


def test_another_scale_is_another_picture(autoencoder: Autoencoder, golden: dict[str, Tensor]) -> None:
    rescaled = dataclasses.replace(autoencoder, config=dataclasses.replace(autoencoder.config, scale=0.25))
    decoded = decode(rescaled, unpack_latents(golden["t2i_global.latent"], 4, 6), ATTENTION, NORM)
    assert relative_l2(decoded, golden["t2i_global.decoded"]) > 4e-2


def test_decoding_undoes_the_scale_and_shift_of_the_latent() -> None:
    source_config = preset("tiny").autoencoder
    z = random_latent(4, 4)
    moments = torch.cat([z, torch.full_like(z, -60.0)], dim=1)
    pictures = []
    for scale, shift in ((1.0, 0.0), (0.5, 2.0)):
        config = dataclasses.replace(source_config, scale=scale, shift=shift)
        autoencoder = build_autoencoder(RandomSource(CPU, 0), config)
        pictures.append(decode(autoencoder, sample_latent(config, moments, torch.ones_like(z)), ATTENTION, NORM))
    assert relative_l2(pictures[1], pictures[0]) < 2e-2


def test_latent_patches_hold_channels_fastest_then_columns() -> None:
    latent = torch.arange(5 * 4 * 6).reshape(1, 5, 4, 6)
    tokens = patchify_latents(latent)
    assert tokens.shape == (6, 20)
    assert tokens[4].tolist() == [int(latent[0, c, 2 + p, 2 + q]) for p in (0, 1) for q in (0, 1) for c in range(5)]
    assert torch.equal(unpack_latents(tokens, 2, 3), latent)
    assert not torch.equal(unpack_latents(tokens, 3, 2), latent)


def test_grey_levels_are_clamped_and_truncated() -> None:
    levels = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.999, 1.0, 2.0])
    picture = to_uint8(levels.expand(1, 3, 1, 7))
    assert (picture.shape, picture.dtype) == ((1, 7, 3), torch.uint8)
    assert picture[0, :, 0].tolist() == [0, 0, 63, 127, 254, 255, 255]


@pytest.mark.parametrize(("name", "side"), [("tiny", 16), ("7b", 8)])
def test_pictures_of_random_weights_are_neither_flat_nor_saturated(name: str, side: int) -> None:
    autoencoder = build_autoencoder(RandomSource(CPU, 0), preset(name).autoencoder)
    decoded = decode(autoencoder, random_latent(side, side), ATTENTION, NORM)
    assert decoded.shape == (1, 3, 8 * side, 8 * side)
    assert decoded.isfinite().all()
    assert 20 < float(to_uint8(decoded).float().std()) < 100


def test_moments_of_random_weights_vary() -> None:
    autoencoder = build_autoencoder(RandomSource(CPU, 0), preset("tiny").autoencoder)
    pixels = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    moments = encode_moments(autoencoder, pixels, ATTENTION, norm_activate)
    assert moments.shape == (1, 32, 8, 12)
    assert 0.2 < float(moments.float().std()) < 2


def test_every_position_reaches_every_pixel_through_the_attention() -> None:
    autoencoder = build_autoencoder(RandomSource(CPU, 0), preset("tiny").autoencoder)
    latent = random_latent(24, 24)
    changed = latent.clone()
    changed[0, :, 0, 0] += 3
    difference = decode(autoencoder, latent, ATTENTION, NORM) != decode(autoencoder, changed, ATTENTION, NORM)
    assert difference[..., -32:, -32:].any()


@pytest.mark.parametrize("multipliers", [(1, 2), (1, 1, 2)])
def test_the_number_of_levels_sets_the_downsampling(multipliers: tuple[int, ...]) -> None:
    config = AutoencoderConfig(base_channels=32, channel_multipliers=multipliers, num_res_blocks=1)
    autoencoder = build_autoencoder(RandomSource(CPU, 0), config)
    assert decode(autoencoder, random_latent(4, 6), ATTENTION, NORM).shape[2:] == (
        4 * config.downsample,
        6 * config.downsample,
    )
    assert (
        encode_moments(autoencoder, torch.zeros(1, 3, 32, 16), ATTENTION, norm_activate).shape[2]
        == 32 // config.downsample
    )
