"""The SigLIP image encoder and its connector to the decoder's width.

Under bf16 autocast, which BAGEL's numerics are defined by, LayerNorm computes and returns fp32 while every linear layer
rounds its input to bf16; the residual stream stays bf16.

Suffixes: M patches, F values of a patch, D width of the encoder, H heads, E head size, L width of the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.config import VitConfig
from bagel_perf.subjects.bagel.model.parameters import Linear, Norm, Source, take_fused_linear, take_linear, take_norm
from bagel_perf.syncs.regions import region


@dataclass(frozen=True, slots=True, kw_only=True)
class VitBlock:
    """A pre-LayerNorm transformer block; ``qkv`` is the three projections side by side."""

    attention_norm: Norm
    qkv: Linear
    attention_out: Linear
    mlp_norm: Norm
    mlp_in: Linear
    mlp_out: Linear


@dataclass(frozen=True, slots=True, kw_only=True)
class Vit:
    """Encoder, connector, and two position tables bf16 [side^2, D] (learned) and [side^2, L] (fixed)."""

    config: VitConfig
    patch_embedding: Linear
    positions: Tensor
    blocks: tuple[VitBlock, ...]
    post_norm: Norm
    connector_in: Linear
    connector_out: Linear
    decoder_positions: Tensor


def encode_image(vit: Vit, pixels_3HW: Tensor, attention: Attention) -> Tensor:
    """Pixels in [-1, 1], fp32 [3, H, W], become decoder rows, bf16 [M, L]; sides are multiples of the patch."""
    config = vit.config
    rows, cols = pixels_3HW.shape[1] // config.patch, pixels_3HW.shape[2] // config.patch
    assert max(rows, cols) <= config.max_patches_per_side
    with region("vit"):
        x_MD = vit.patch_embedding(patchify_pixels(pixels_3HW, config.patch)) + _positions(vit.positions, rows, cols)
        for block in vit.blocks:
            x_MD = x_MD + _attend(block, _layer_norm(x_MD, block.attention_norm, config), config, attention)
            x_MD = x_MD + _mlp(block.mlp_in, block.mlp_out, _layer_norm(x_MD, block.mlp_norm, config))
        x_ML = _mlp(vit.connector_in, vit.connector_out, _layer_norm(x_MD, vit.post_norm, config))
        return x_ML + _positions(vit.decoder_positions, rows, cols)


def patchify_pixels(pixels_CHW: Tensor, patch: int) -> Tensor:
    """[C, H, W] -> [M, patch * patch * C], patches row by row, channel fastest (reference/bagel.md A3)."""
    num_channels, height, width = pixels_CHW.shape
    pixels_CHPWQ = pixels_CHW.reshape(num_channels, height // patch, patch, width // patch, patch)
    return pixels_CHPWQ.permute(1, 3, 2, 4, 0).reshape(-1, patch * patch * num_channels)


def _positions(table: Tensor, rows: int, cols: int) -> Tensor:
    """The rows h * side + w of a table [side^2, width]: not interpolated, a smaller image uses the top left corner."""
    side = int(table.shape[0] ** 0.5 + 0.5)
    return table.reshape(side, side, -1)[:rows, :cols].flatten(0, 1)


def _layer_norm(x_MD: Tensor, norm: Norm, config: VitConfig) -> Tensor:
    return F.layer_norm(x_MD.float(), (config.hidden,), norm.weight, norm.bias, config.layer_norm_eps)


def _attend(block: VitBlock, x_MD: Tensor, config: VitConfig, attention: Attention) -> Tensor:
    q_MHE, k_MHE, v_MHE = block.qkv(x_MD).reshape(-1, 3, config.num_heads, config.head_dim).unbind(1)
    return block.attention_out(attention.full(q_MHE, k_MHE, v_MHE).flatten(1))


def _mlp(first: Linear, second: Linear, x: Tensor) -> Tensor:
    return second(F.gelu(first(x), approximate="tanh"))


def build_vit(source: Source, config: VitConfig, decoder_width: int) -> Vit:
    """Takes ``vit_model.*``, ``connector.*`` and ``vit_pos_embed.*``."""
    root, width, side = "vit_model.vision_model", config.hidden, config.max_patches_per_side
    num_values = config.channels * config.patch**2
    return Vit(
        config=config,
        patch_embedding=take_linear(source, f"{root}.embeddings.patch_embedding", width, num_values),
        positions=source.take(f"{root}.embeddings.position_embedding.weight", (side**2, width), std=0.3),
        blocks=tuple(_build_block(source, config, f"{root}.encoder.layers.{i}") for i in range(config.num_layers)),
        post_norm=take_norm(source, f"{root}.post_layernorm", width, dtype=torch.float32),
        connector_in=take_linear(source, "connector.fc1", decoder_width, width),
        connector_out=take_linear(source, "connector.fc2", decoder_width, decoder_width),
        decoder_positions=source.take_table("vit_pos_embed.pos_embed", side, decoder_width),
    )


def _build_block(source: Source, config: VitConfig, key: str) -> VitBlock:
    width = config.hidden
    projections = tuple(f"{key}.self_attn.{name}_proj" for name in "qkv")
    return VitBlock(
        attention_norm=take_norm(source, f"{key}.layer_norm1", width, dtype=torch.float32),
        qkv=take_fused_linear(source, projections, (width,) * 3, width, bias=True),
        attention_out=take_linear(source, f"{key}.self_attn.out_proj", width, width),
        mlp_norm=take_norm(source, f"{key}.layer_norm2", width, dtype=torch.float32),
        mlp_in=take_linear(source, f"{key}.mlp.fc1", config.intermediate, width),
        mlp_out=take_linear(source, f"{key}.mlp.fc2", width, config.intermediate),
    )
