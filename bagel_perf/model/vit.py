"""The SigLIP image encoder over one picture, and the connector into the decoder's width.

Suffixes: M patches, V encoder width, D decoder width, H heads, E head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bagel_perf.model.attention import Attention
from bagel_perf.model.config import VitConfig
from bagel_perf.model.parameters import Linear, Norm, Source, take_fused_linear, take_linear, take_norm


@dataclass(frozen=True, slots=True, kw_only=True)
class VitLayer:
    norm1: Norm
    qkv: Linear
    output: Linear
    norm2: Norm
    first: Linear
    second: Linear


@dataclass(frozen=True, slots=True, kw_only=True)
class Vit:
    """``positions`` is learned [max_patches_per_side^2, V], ``connector_positions`` fixed [.., D], both by row and column."""

    config: VitConfig
    patches: Linear
    positions: Tensor
    layers: tuple[VitLayer, ...]
    post_norm: Norm
    connector_first: Linear
    connector_second: Linear
    connector_positions: Tensor


def encode_image(vit: Vit, pixels_3HW: Tensor, attention: Attention) -> Tensor:
    """Decoder rows of a picture, bf16 [M, D], from fp32 pixels in [-1, 1] whose sides are multiples of the patch."""
    patches, position_ids_M = _patchify(pixels_3HW, vit.config)
    x_MV = vit.patches(patches) + vit.positions[position_ids_M]
    for layer in vit.layers:
        x_MV = x_MV + _self_attention(layer, layer_norm(x_MV, layer.norm1, vit.config), vit.config, attention)
        hidden = F.gelu(layer.first(layer_norm(x_MV, layer.norm2, vit.config)), approximate="tanh")
        x_MV = x_MV + layer.second(hidden)
    hidden = F.gelu(vit.connector_first(layer_norm(x_MV, vit.post_norm, vit.config)), approximate="tanh")
    return vit.connector_second(hidden) + vit.connector_positions[position_ids_M]


def _patchify(pixels_3HW: Tensor, config: VitConfig) -> tuple[Tensor, Tensor]:
    """Patches [M, patch patch channels], channels fastest, and their rows in the position tables."""
    channels, height, width = pixels_3HW.shape
    rows, columns, side = height // config.patch, width // config.patch, config.patch
    patches = pixels_3HW.view(channels, rows, side, columns, side).permute(1, 3, 2, 4, 0)
    row_ids, column_ids = (torch.arange(num, device=pixels_3HW.device) for num in (rows, columns))
    position_ids_M = (row_ids[:, None] * config.max_patches_per_side + column_ids).flatten()
    return patches.reshape(rows * columns, -1), position_ids_M


def _self_attention(layer: VitLayer, x_MV: Tensor, config: VitConfig, attention: Attention) -> Tensor:
    q_MHE, k_MHE, v_MHE = layer.qkv(x_MV).unflatten(-1, (3, config.num_heads, config.head_dim)).unbind(1)
    return layer.output(attention.full(q_MHE, k_MHE, v_MHE).flatten(1))


def layer_norm(x: Tensor, norm: Norm, config: VitConfig) -> Tensor:
    """LayerNorm in fp32, as autocast runs it; gives fp32."""
    weight, bias = norm.weight.float(), norm.bias.float()
    return F.layer_norm(x.float(), weight.shape, weight, bias, config.layer_norm_eps)


def build_vit(source: Source, config: VitConfig, decoder_width: int) -> Vit:
    """The encoder and connector under the released key names."""
    root, width = "vit_model.vision_model", config.hidden
    num_positions = config.max_patches_per_side**2
    return Vit(
        config=config,
        patches=take_linear(source, f"{root}.embeddings.patch_embedding", width, config.channels * config.patch**2),
        positions=source.take(f"{root}.embeddings.position_embedding.weight", (num_positions, width), std=0.5),
        layers=tuple(_build_layer(source, config, f"{root}.encoder.layers.{i}") for i in range(config.num_layers)),
        post_norm=take_norm(source, f"{root}.post_layernorm", width),
        connector_first=take_linear(source, "connector.fc1", decoder_width, width),
        connector_second=take_linear(source, "connector.fc2", decoder_width, decoder_width),
        connector_positions=source.take_table("vit_pos_embed.pos_embed", config.max_patches_per_side, decoder_width),
    )


def _build_layer(source: Source, config: VitConfig, key: str) -> VitLayer:
    width = config.hidden
    projections = tuple(f"{key}.self_attn.{name}_proj" for name in "qkv")
    return VitLayer(
        norm1=take_norm(source, f"{key}.layer_norm1", width),
        qkv=take_fused_linear(source, projections, (width, width, width), width, bias=True),
        output=take_linear(source, f"{key}.self_attn.out_proj", width, width),
        norm2=take_norm(source, f"{key}.layer_norm2", width),
        first=take_linear(source, f"{key}.mlp.fc1", config.intermediate, width),
        second=take_linear(source, f"{key}.mlp.fc2", width, config.intermediate),
    )
