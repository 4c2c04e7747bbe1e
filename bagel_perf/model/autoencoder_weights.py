"""Takes the autoencoder's tensors from a source, by the names of ae.safetensors."""

from __future__ import annotations

import torch

from bagel_perf.model.autoencoder import AttnBlock, Autoencoder, Coder, Conv, Level, ResBlock
from bagel_perf.model.config import GROUP_NORM_GROUPS, AutoencoderConfig
from bagel_perf.model.contracts import GroupNorm
from bagel_perf.model.parameters import Source, take_norm

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
