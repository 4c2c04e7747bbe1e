"""The FLUX autoencoder: pixels to moments, latents to pixels.

Under bf16 autocast convolutions round their input and weight to bf16, so the weights are rounded once, when they are
loaded; GroupNorm and SiLU are fp32 inside; whoever encodes or decodes says by which operators. Tensors are taken by
their names in ae.safetensors.

Suffixes: C channels, H and W rows and columns, P positions (H W), 1 for a batch of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.config import GROUP_NORM_GROUPS, AutoencoderConfig
from bagel_perf.subjects.bagel.model.contracts import GroupNorm, NormActivate
from bagel_perf.subjects.bagel.model.parameters import Source, take_norm
from bagel_perf.syncs.regions import region


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """A convolution with odd kernel in the dtype of its weight [out, in, k, k]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x_1CHW: Tensor) -> Tensor:
        """Keeps H and W."""
        return F.conv2d(x_1CHW.to(self.weight.dtype), self.weight, self.bias, padding=self.weight.shape[-1] // 2)

    def halve(self, x_1CHW: Tensor) -> Tensor:
        """Every second position, padded below and on the right only."""
        return F.conv2d(F.pad(x_1CHW.to(self.weight.dtype), (0, 1, 0, 1)), self.weight, self.bias, stride=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResBlock:
    """Two normed convolutions beside a shortcut, which is a 1x1 convolution where the channels change."""

    norm1: GroupNorm
    conv1: Conv
    norm2: GroupNorm
    conv2: Conv
    shortcut: Conv | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttnBlock:
    """Single-head attention over all positions, with 1x1 convolutions as projections."""

    norm: GroupNorm
    q: Conv
    k: Conv
    v: Conv
    out: Conv


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Residual blocks of one resolution, and the convolution of the step to the next one."""

    blocks: tuple[ResBlock, ...]
    resample: Conv | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coder:
    """One half of the autoencoder, levels in the order of their use."""

    conv_in: Conv
    levels: tuple[Level, ...]
    mid_first: ResBlock
    mid_attention: AttnBlock
    mid_second: ResBlock
    norm_out: GroupNorm
    conv_out: Conv


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoencoder:
    """Both halves, with what latents are scaled and shifted by."""

    config: AutoencoderConfig
    encoder: Coder
    decoder: Coder


def encode_moments(
    autoencoder: Autoencoder, pixels_13HW: Tensor, attention: Attention, normalize: NormActivate
) -> Tensor:
    """Pixels in [-1, 1] -> mean and log variance, bf16 [1, 2z, H/8, W/8] (8: ``config.downsample``)."""
    coder = autoencoder.encoder
    with region("vae_encode"):
        x = coder.conv_in(pixels_13HW)
        for level in coder.levels:
            for block in level.blocks:
                x = _residual(block, x, normalize)
            x = level.resample.halve(x) if level.resample else x
        x = _middle(coder, x, attention, normalize)
        return coder.conv_out(normalize(x, coder.norm_out, activate=True))


def sample_latent(config: AutoencoderConfig, moments: Tensor, noise: Tensor) -> Tensor:
    """Latent fp32 [1, z, h, w] of bf16 moments and fp32 noise (reference/bagel.md A5).

    scale * (mean + exp(logvar / 2) * noise - shift); the standard deviation is rounded to bf16, as the golden vectors'.
    """
    mean, logvar = moments.chunk(2, dim=1)
    z = mean + torch.exp(0.5 * logvar) * noise
    return config.scale * (z - config.shift)


def decode(autoencoder: Autoencoder, latent: Tensor, attention: Attention, normalize: NormActivate) -> Tensor:
    """Latent fp32 [1, z, h, w] -> pixels around [-1, 1], bf16 [1, 3, 8h, 8w]."""
    config, coder = autoencoder.config, autoencoder.decoder
    with region("vae_decode"):
        x = _middle(coder, coder.conv_in(latent / config.scale + config.shift), attention, normalize)
        for level in coder.levels:
            for block in level.blocks:
                x = _residual(block, x, normalize)
            x = level.resample(F.interpolate(x, scale_factor=2.0, mode="nearest")) if level.resample else x
        return coder.conv_out(normalize(x, coder.norm_out, activate=True))


def to_uint8(decoded_13HW: Tensor) -> Tensor:
    """Pixels in [-1, 1] -> uint8 [H, W, 3] on the same device, truncated, not rounded (reference/bagel.md D4)."""
    unit = (decoded_13HW * 0.5 + 0.5).clamp(0, 1)[0]
    return (unit.permute(1, 2, 0) * 255).to(torch.uint8)


def _residual(block: ResBlock, x_1CHW: Tensor, normalize: NormActivate) -> Tensor:
    inner = block.conv1(normalize(x_1CHW, block.norm1, activate=True))
    inner = block.conv2(normalize(inner, block.norm2, activate=True))
    return inner.add_(block.shortcut(x_1CHW) if block.shortcut else x_1CHW)


def _middle(coder: Coder, x_1CHW: Tensor, attention: Attention, normalize: NormActivate) -> Tensor:
    x_1CHW = _residual(coder.mid_first, x_1CHW, normalize)
    x_1CHW = x_1CHW + _attend(coder.mid_attention, x_1CHW, attention, normalize)
    return _residual(coder.mid_second, x_1CHW, normalize)


def _attend(block: AttnBlock, x_1CHW: Tensor, attention: Attention, normalize: NormActivate) -> Tensor:
    normed = normalize(x_1CHW, block.norm, activate=False)
    # Contiguous rows: the kernels that do not build the P x P matrix ask for them.
    q, k, v = (conv(normed).flatten(2).transpose(1, 2).contiguous()[None] for conv in (block.q, block.k, block.v))
    return block.out(_attend_one_head(attention, q, k, v)[0].transpose(1, 2).reshape(x_1CHW.shape))


def _attend_one_head(attention: Attention, q_11PC: Tensor, k_11PC: Tensor, v_11PC: Tensor) -> Tensor:
    if attention.backend == "math":
        return attention.heads_first(q_11PC, k_11PC, v_11PC)
    # Neither cuDNN nor flash takes a head of 512, the width of the released autoencoder.
    with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION]):
        return F.scaled_dot_product_attention(q_11PC, k_11PC, v_11PC)


GROUP_NORM_EPS = 1e-6


def build_autoencoder(source: Source, config: AutoencoderConfig) -> Autoencoder:
    """Takes ``encoder.*`` and ``decoder.*`` of ae.safetensors."""
    return Autoencoder(config=config, encoder=_build_encoder(source, config), decoder=_build_decoder(source, config))


def _build_encoder(source: Source, config: AutoencoderConfig) -> Coder:
    channels = config.channels
    levels, width = [], channels[0]
    for index, num_out in enumerate(channels):
        key = f"encoder.down.{index}"
        blocks = _build_blocks(source, f"{key}.block", config.num_res_blocks, width, num_out)
        is_last = index == len(channels) - 1
        resample = None if is_last else _take_conv(source, f"{key}.downsample.conv", num_out, num_out, 3)
        levels.append(Level(blocks=blocks, resample=resample))
        width = num_out
    return Coder(
        conv_in=_take_conv(source, "encoder.conv_in", channels[0], config.in_channels, 3),
        levels=tuple(levels),
        mid_first=_build_residual(source, "encoder.mid.block_1", width, width),
        mid_attention=_build_attention(source, "encoder.mid.attn_1", width),
        mid_second=_build_residual(source, "encoder.mid.block_2", width, width),
        norm_out=_take_group_norm(source, "encoder.norm_out", width),
        conv_out=_take_conv(source, "encoder.conv_out", 2 * config.z_channels, width, 3),
    )


def _build_decoder(source: Source, config: AutoencoderConfig) -> Coder:
    channels = config.channels
    levels, width = [], channels[-1]
    for index, num_out in reversed(list(enumerate(channels))):
        key = f"decoder.up.{index}"
        blocks = _build_blocks(source, f"{key}.block", config.num_res_blocks + 1, width, num_out)
        resample = None if index == 0 else _take_conv(source, f"{key}.upsample.conv", num_out, num_out, 3)
        levels.append(Level(blocks=blocks, resample=resample))
        width = num_out
    return Coder(
        conv_in=_take_conv(source, "decoder.conv_in", channels[-1], config.z_channels, 3),
        levels=tuple(levels),
        mid_first=_build_residual(source, "decoder.mid.block_1", channels[-1], channels[-1]),
        mid_attention=_build_attention(source, "decoder.mid.attn_1", channels[-1]),
        mid_second=_build_residual(source, "decoder.mid.block_2", channels[-1], channels[-1]),
        norm_out=_take_group_norm(source, "decoder.norm_out", width),
        conv_out=_take_conv(source, "decoder.conv_out", config.out_channels, width, 3),
    )


def _build_blocks(source: Source, key: str, number: int, num_in: int, num_out: int) -> tuple[ResBlock, ...]:
    return tuple(_build_residual(source, f"{key}.{i}", num_out if i else num_in, num_out) for i in range(number))


def _build_residual(source: Source, key: str, num_in: int, num_out: int) -> ResBlock:
    return ResBlock(
        norm1=_take_group_norm(source, f"{key}.norm1", num_in),
        conv1=_take_conv(source, f"{key}.conv1", num_out, num_in, 3),
        norm2=_take_group_norm(source, f"{key}.norm2", num_out),
        conv2=_take_conv(source, f"{key}.conv2", num_out, num_out, 3),
        shortcut=None if num_in == num_out else _take_conv(source, f"{key}.nin_shortcut", num_out, num_in, 1),
    )


def _build_attention(source: Source, key: str, width: int) -> AttnBlock:
    return AttnBlock(
        norm=_take_group_norm(source, f"{key}.norm", width),
        q=_take_conv(source, f"{key}.q", width, width, 1),
        k=_take_conv(source, f"{key}.k", width, width, 1),
        v=_take_conv(source, f"{key}.v", width, width, 1),
        out=_take_conv(source, f"{key}.proj_out", width, width, 1),
    )


def _take_group_norm(source: Source, key: str, num_channels: int) -> GroupNorm:
    norm = take_norm(source, key, num_channels, dtype=torch.float32)
    return GroupNorm(weight=norm.weight, bias=norm.bias, num_groups=GROUP_NORM_GROUPS, eps=GROUP_NORM_EPS)


def _take_conv(source: Source, key: str, num_out: int, num_in: int, kernel: int) -> Conv:
    """Random weights keep the variance of their input; channels last is the order the kernels are fastest in."""
    weight = source.take(f"{key}.weight", (num_out, num_in, kernel, kernel), std=(num_in * kernel**2) ** -0.5)
    return Conv(
        weight=weight.contiguous(memory_format=torch.channels_last),
        bias=source.take(f"{key}.bias", (num_out,), std=0.02),
    )
