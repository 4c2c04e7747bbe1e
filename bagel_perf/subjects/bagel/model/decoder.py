"""The Qwen2 decoder with two weight sets (mixture of transformers), from embedded rows to final norm.

Queries and keys of a block of latents, its two markers included, are normed and rotated in fp32, those of text and ViT
rows in bf16. In a packed prefill both occur in one forward, so rows carry a precision, as spans known on the host.

Suffixes: T rows, D model width, H query heads, K KV heads, E head size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bagel_perf.subjects.bagel.model.config import LlmConfig
from bagel_perf.subjects.bagel.model.contracts import RouteExperts
from bagel_perf.subjects.bagel.model.layout import PrecisionSpan, Routing
from bagel_perf.subjects.bagel.model.parameters import Linear, Source, take_fused_linear, take_linear

SplitAttention = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer index, q [T, H, E], k [T, K, E], v [T, K, E]) -> [T, H, E]: whatever the stage does between projections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RmsNorm:
    """RMSNorm weight [features]."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """Rounds to the dtype of x before the weight is applied, as upstream does (reference/bagel.md A6)."""
        x32 = x.float()
        normed = x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(x.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertWeights:
    """One of the two weight sets of a layer."""

    input_norm: RmsNorm
    qkv: Linear
    query_norm: RmsNorm
    key_norm: RmsNorm
    output: Linear
    post_norm: RmsNorm
    gate_up: Linear
    down: Linear

    def feed_forward(self, x_TD: Tensor) -> Tensor:
        """SwiGLU."""
        return self.down(silu_mul(self.gate_up(x_TD)))


def silu_mul(gate_up: Tensor) -> Tensor:
    """SiLU of the first half of the columns times the second half, rounded in between."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderLayer:
    und: ExpertWeights
    gen: ExpertWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    config: LlmConfig
    embedding: Tensor
    layers: tuple[DecoderLayer, ...]
    final_norm_und: RmsNorm
    final_norm_gen: RmsNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What the decoder must know of the rows it gets: weight set, precision, and rotary tables (bf16 [T, 1, E])."""

    routing: Routing
    route: RouteExperts
    spans: tuple[PrecisionSpan, ...]
    und_spans: tuple[PrecisionSpan, ...]
    cos_T1E: Tensor
    sin_T1E: Tensor


def rotary_tables(positions_T: Tensor, config: LlmConfig) -> tuple[Tensor, Tensor]:
    """cos and sin of position times frequency, bf16 [T, 1, E] each, from fp32 angles."""
    size = config.head_dim
    exponents = torch.arange(0, size, 2, dtype=torch.float32, device=positions_T.device) / size
    angles_TF = positions_T.float()[:, None] * (1.0 / config.rope_theta**exponents)
    angles_T1E = torch.cat([angles_TF, angles_TF], dim=-1)[:, None]
    return angles_T1E.cos().bfloat16(), angles_T1E.sin().bfloat16()


def decode(decoder: Decoder, x_TD: Tensor, rows: Rows, attend: SplitAttention) -> Tensor:
    """All layers and the final norm over bf16 rows [T, D]; gives bf16 [T, D]."""
    for index, layer in enumerate(decoder.layers):
        x_TD = x_TD + _self_attention(decoder.config, layer, index, x_TD, rows, attend)
        x_TD = x_TD + _feed_forward(layer, x_TD, rows)
    return rows.route(x_TD, rows.routing, decoder.final_norm_und, decoder.final_norm_gen, check_und=True)


def _self_attention(
    config: LlmConfig, layer: DecoderLayer, index: int, x_TD: Tensor, rows: Rows, attend: SplitAttention
) -> Tensor:
    und, gen = layer.und, layer.gen
    x_TD = rows.route(x_TD, rows.routing, und.input_norm, gen.input_norm)
    qkv = rows.route(x_TD, rows.routing, und.qkv, gen.qkv).unflatten(-1, (-1, config.head_dim))
    q_THE, k_TKE, v_TKE = qkv.split([config.num_heads, config.num_kv_heads, config.num_kv_heads], dim=1)
    q_THE = _norm_and_rotate(q_THE, und.query_norm, gen.query_norm, rows)
    k_TKE = _norm_and_rotate(k_TKE, und.key_norm, gen.key_norm, rows)
    out_THE = attend(index, q_THE, k_TKE, v_TKE)
    return rows.route(out_THE.flatten(1), rows.routing, und.output, gen.output)


def _feed_forward(layer: DecoderLayer, x_TD: Tensor, rows: Rows) -> Tensor:
    x_TD = rows.route(x_TD, rows.routing, layer.und.post_norm, layer.gen.post_norm)
    return rows.route(x_TD, rows.routing, layer.und.feed_forward, layer.gen.feed_forward)


def _norm_and_rotate(x_THE: Tensor, und_norm: RmsNorm, gen_norm: RmsNorm, rows: Rows) -> Tensor:
    """Head norm and rotary embedding of queries or keys, bf16 [T, heads, E] in and out, each row in its precision."""
    normed_THE = rows.route(
        x_THE,
        rows.routing,
        lambda x: by_precision(x, rows.und_spans, lambda part, _: und_norm(part).float()),
        lambda x: gen_norm(x.float()),
    )
    return by_precision(normed_THE, rows.spans, lambda part, span: _rotate(part, rows, span).bfloat16())


def by_precision(x: Tensor, spans: tuple[PrecisionSpan, ...], fn: Callable[[Tensor, PrecisionSpan], Tensor]) -> Tensor:
    """``fn`` over each span's rows, given in fp32 where the span is exact and in bf16 elsewhere."""
    parts = [fn(x[s.start : s.stop].to(torch.float32 if s.exact else torch.bfloat16), s) for s in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _rotate(x_THE: Tensor, rows: Rows, span: PrecisionSpan) -> Tensor:
    cos_T1E, sin_T1E = (table[span.start : span.stop] for table in (rows.cos_T1E, rows.sin_T1E))
    return rotate(x_THE, cos_T1E, sin_T1E)


def rotate(x_THE: Tensor, cos_T1E: Tensor, sin_T1E: Tensor) -> Tensor:
    """Rotary embedding of the halves of each head, in the wider of the dtypes (reference/bagel.md A6)."""
    low, high = x_THE.chunk(2, dim=-1)
    return x_THE * cos_T1E + torch.cat([-high, low], dim=-1) * sin_T1E


def build_decoder(source: Source, config: LlmConfig) -> Decoder:
    """The decoder under the released key names; the language model's output head is not part of either stage."""
    root = "language_model.model"
    return Decoder(
        config=config,
        embedding=source.take(f"{root}.embed_tokens.weight", (config.vocab, config.hidden), std=1.0),
        layers=tuple(_build_layer(source, config, f"{root}.layers.{index}") for index in range(config.num_layers)),
        final_norm_und=_build_norm(source, config, f"{root}.norm", config.hidden),
        final_norm_gen=_build_norm(source, config, f"{root}.norm_moe_gen", config.hidden),
    )


def _build_layer(source: Source, config: LlmConfig, key: str) -> DecoderLayer:
    return DecoderLayer(und=_build_expert(source, config, key, ""), gen=_build_expert(source, config, key, "_moe_gen"))


def _build_expert(source: Source, config: LlmConfig, key: str, suffix: str) -> ExpertWeights:
    width, attention, mlp = config.hidden, f"{key}.self_attn", f"{key}.mlp{suffix}"
    query_size, kv_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    projections = tuple(f"{attention}.{name}_proj{suffix}" for name in "qkv")
    return ExpertWeights(
        input_norm=_build_norm(source, config, f"{key}.input_layernorm{suffix}", width),
        qkv=take_fused_linear(source, projections, (query_size, kv_size, kv_size), width, bias=True),
        query_norm=_build_norm(source, config, f"{attention}.q_norm{suffix}", config.head_dim),
        key_norm=_build_norm(source, config, f"{attention}.k_norm{suffix}", config.head_dim),
        output=take_linear(source, f"{attention}.o_proj{suffix}", width, query_size, bias=False),
        post_norm=_build_norm(source, config, f"{key}.post_attention_layernorm{suffix}", width),
        gate_up=take_fused_linear(
            source, (f"{mlp}.gate_proj", f"{mlp}.up_proj"), (config.intermediate,) * 2, width, bias=False
        ),
        down=take_linear(source, f"{mlp}.down_proj", width, config.intermediate, bias=False),
    )


def _build_norm(source: Source, config: LlmConfig, key: str, num_features: int) -> RmsNorm:
    return RmsNorm(weight=source.take(f"{key}.weight", (num_features,), mean=1.0, std=0.02), eps=config.rms_eps)
