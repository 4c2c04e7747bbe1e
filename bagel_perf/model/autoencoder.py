"""The FLUX autoencoder: pixels to latents and back.

Convolutions run in bf16 and normalizations in fp32, as autocast runs them (reference/bagel.md A7); the weights of the
convolutions are rounded to bf16 once, when they are taken, which gives the bits that autocast gives.
Suffixes: C channels, h and w a level's height and width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bagel_perf.model.attention import Attention
from bagel_perf.model.config import AutoencoderConfig
from bagel_perf.model.parameters import BF16, Norm, Source, take_norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """A convolution in bf16 that keeps the size at stride 1."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return F.conv2d(x.to(BF16), self.weight, self.bias, padding=self.weight.shape[-1] // 2)

    def halve(self, x: Tensor) -> Tensor:
        """Stride 2 after one zero row below and one zero column to the right."""
        return F.conv2d(F.pad(x, (0, 1, 0, 1)).to(BF16), self.weight, self.bias, stride=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResnetBlock:
    norm1: Norm
    conv1: Conv
    norm2: Norm
    conv2: Conv
    shortcut: Conv | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionBlock:
    norm: Norm
    query: Conv
    key: Conv
    value: Conv
    output: Conv


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Blocks of one resolution, and the convolution that leads to the next one."""

    blocks: tuple[ResnetBlock, ...]
    resample: Conv | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Middle:
    block1: ResnetBlock
    attention: AttentionBlock
    block2: ResnetBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """Encoder or decoder; levels in the order in which data pass them."""

    conv_in: Conv
    levels: tuple[Level, ...]
    middle: Middle
    norm_out: Norm
    conv_out: Conv


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoencoder:
    config: AutoencoderConfig
    encoder: Half
    decoder: Half


def encode_moments(autoencoder: Autoencoder, pixels_13HW: Tensor, attention: Attention) -> Tensor:
    """Mean and log variance, bf16 [1, 2 z, H / 8, W / 8], of fp32 pixels in [-1, 1]."""
    half, config = autoencoder.encoder, autoencoder.config
    x = half.conv_in(pixels_13HW)
    for level in half.levels:
        for block in level.blocks:
            x = _resnet(x, block, config)
        x = level.resample.halve(x) if level.resample else x
    x = _middle(x, half.middle, config, attention)
    return half.conv_out(F.silu(group_norm(x, half.norm_out, config)))


def sample_latent(config: AutoencoderConfig, moments: Tensor, noise: Tensor) -> Tensor:
    """scale (mean + exp(logvar / 2) noise - shift), fp32 [1, z, h, w], from bf16 moments and fp32 noise."""
    mean, logvar = moments.chunk(2, dim=1)
    return config.scale * (mean + torch.exp(0.5 * logvar) * noise - config.shift)


def decode(autoencoder: Autoencoder, latent: Tensor, attention: Attention) -> Tensor:
    """Pixels about [-1, 1], bf16 [1, 3, 8 h, 8 w], of latents fp32 [1, z, h, w]."""
    half, config = autoencoder.decoder, autoencoder.config
    x = half.conv_in(latent / config.scale + config.shift)
    x = _middle(x, half.middle, config, attention)
    for level in half.levels:
        for block in level.blocks:
            x = _resnet(x, block, config)
        x = level.resample(F.interpolate(x, scale_factor=2.0, mode="nearest")) if level.resample else x
    return half.conv_out(F.silu(group_norm(x, half.norm_out, config)))


def to_uint8(decoded_13HW: Tensor) -> Tensor:
    """uint8 [H, W, 3]: to [0, 1], clamped, times 255, truncated (not rounded: reference/bagel.md D4)."""
    unit = (decoded_13HW * 0.5 + 0.5).clamp(0, 1)
    return (unit[0].permute(1, 2, 0) * 255).to(torch.uint8)


def group_norm(x: Tensor, norm: Norm, config: AutoencoderConfig) -> Tensor:
    """GroupNorm in fp32; gives fp32."""
    return F.group_norm(x.float(), config.num_groups, norm.weight, norm.bias, config.group_norm_eps)


def _resnet(x: Tensor, block: ResnetBlock, config: AutoencoderConfig) -> Tensor:
    hidden = block.conv1(F.silu(group_norm(x, block.norm1, config)))
    hidden = block.conv2(F.silu(group_norm(hidden, block.norm2, config)))
    return (block.shortcut(x) if block.shortcut else x) + hidden


def _middle(x: Tensor, middle: Middle, config: AutoencoderConfig, attention: Attention) -> Tensor:
    x = _resnet(x, middle.block1, config)
    x = x + _attend(x, middle.attention, config, attention)
    return _resnet(x, middle.block2, config)


def _attend(x_1Chw: Tensor, block: AttentionBlock, config: AutoencoderConfig, attention: Attention) -> Tensor:
    """One head over all positions, as wide as there are channels."""
    normed = group_norm(x_1Chw, block.norm, config)
    q, k, v = (conv(normed).flatten(2).transpose(1, 2)[:, None] for conv in (block.query, block.key, block.value))
    out = attention.heads_first(q, k, v)[:, 0].transpose(1, 2).unflatten(2, x_1Chw.shape[2:])
    return block.output(out)


def build_autoencoder(source: Source, config: AutoencoderConfig) -> Autoencoder:
    """Encoder and decoder under the released key names, which have no prefix."""
    return Autoencoder(config=config, encoder=_build_encoder(source, config), decoder=_build_decoder(source, config))


def _build_encoder(source: Source, config: AutoencoderConfig) -> Half:
    levels, channels, last = [], config.channels[0], len(config.channels) - 1
    for index, width in enumerate(config.channels):
        key = f"encoder.down.{index}"
        blocks = _build_blocks(source, key, channels, width, config.num_res_blocks)
        levels.append(Level(blocks=blocks, resample=None if index == last else _conv(source, f"{key}.downsample.conv", width, width)))
        channels = width
    return Half(
        conv_in=_conv(source, "encoder.conv_in", config.channels[0], config.in_channels),
        levels=tuple(levels),
        middle=_build_middle(source, "encoder.mid", channels),
        norm_out=take_norm(source, "encoder.norm_out", channels, dtype=torch.float32),
        conv_out=_conv(source, "encoder.conv_out", 2 * config.z_channels, channels),
    )


def _build_decoder(source: Source, config: AutoencoderConfig) -> Half:
    levels, top = [], config.channels[-1]
    channels = top
    for index in reversed(range(len(config.channels))):
        key, width = f"decoder.up.{index}", config.channels[index]
        blocks = _build_blocks(source, key, channels, width, config.num_res_blocks + 1)
        levels.append(Level(blocks=blocks, resample=_conv(source, f"{key}.upsample.conv", width, width) if index else None))
        channels = width
    return Half(
        conv_in=_conv(source, "decoder.conv_in", top, config.z_channels),
        levels=tuple(levels),
        middle=_build_middle(source, "decoder.mid", top),
        norm_out=take_norm(source, "decoder.norm_out", channels, dtype=torch.float32),
        conv_out=_conv(source, "decoder.conv_out", config.out_channels, channels),
    )


def _build_blocks(source: Source, key: str, num_in: int, num_out: int, num_blocks: int) -> tuple[ResnetBlock, ...]:
    widths = [num_in, *[num_out] * num_blocks]
    return tuple(_resnet_block(source, f"{key}.block.{i}", widths[i], num_out) for i in range(num_blocks))


def _resnet_block(source: Source, key: str, num_in: int, num_out: int) -> ResnetBlock:
    return ResnetBlock(
        norm1=take_norm(source, f"{key}.norm1", num_in, dtype=torch.float32),
        conv1=_conv(source, f"{key}.conv1", num_out, num_in),
        norm2=take_norm(source, f"{key}.norm2", num_out, dtype=torch.float32),
        conv2=_conv(source, f"{key}.conv2", num_out, num_out),
        shortcut=None if num_in == num_out else _conv(source, f"{key}.nin_shortcut", num_out, num_in, side=1),
    )


def _build_middle(source: Source, key: str, channels: int) -> Middle:
    attention = f"{key}.attn_1"
    query, key_conv, value, output = (
        _conv(source, f"{attention}.{name}", channels, channels, side=1) for name in ("q", "k", "v", "proj_out")
    )
    return Middle(
        block1=_resnet_block(source, f"{key}.block_1", channels, channels),
        attention=AttentionBlock(
            norm=take_norm(source, f"{attention}.norm", channels, dtype=torch.float32),
            query=query,
            key=key_conv,
            value=value,
            output=output,
        ),
        block2=_resnet_block(source, f"{key}.block_2", channels, channels),
    )


def _conv(source: Source, key: str, num_out: int, num_in: int, *, side: int = 3) -> Conv:
    weight = source.take(f"{key}.weight", (num_out, num_in, side, side), std=(num_in * side * side) ** -0.5)
    return Conv(weight=weight, bias=source.take(f"{key}.bias", (num_out,), std=0.02))
