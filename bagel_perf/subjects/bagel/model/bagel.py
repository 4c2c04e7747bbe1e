"""BAGEL's parameters, and the embeddings that both stages share.

Suffixes: N latent tokens, D model width, F frequencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.autoencoder import Autoencoder, build_autoencoder
from bagel_perf.subjects.bagel.model.config import BagelConfig
from bagel_perf.subjects.bagel.model.decoder import Decoder, build_decoder
from bagel_perf.subjects.bagel.model.parameters import Linear, Source, take_linear
from bagel_perf.subjects.bagel.model.vit import Vit, build_vit

NUM_FREQUENCIES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeEmbedder:
    """Two linear layers with SiLU over a sinusoid of the time."""

    first: Linear
    second: Linear

    def __call__(self, t_N: Tensor) -> Tensor:
        """Embeds fp32 times in [0, 1] (not scaled by 1000), cosines first; gives bf16 [N, D]."""
        exponents_F = torch.arange(NUM_FREQUENCIES, dtype=torch.float32, device=t_N.device) / NUM_FREQUENCIES
        angles_NF = t_N[:, None] * torch.exp(-math.log(10000.0) * exponents_F)
        return self.second(F.silu(self.first(torch.cat([angles_NF.cos(), angles_NF.sin()], dim=-1))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bagel:
    """The whole model on one device. ``latent_positions`` is the fixed table bf16 [max_latent_size^2, D]."""

    config: BagelConfig
    attention: Attention
    decoder: Decoder
    vit: Vit
    autoencoder: Autoencoder
    time_embedder: TimeEmbedder
    latent_in: Linear
    latent_out: Linear
    latent_positions: Tensor

    @property
    def device(self) -> torch.device:
        return self.latent_positions.device

    def embed_markers(self) -> Tensor:
        """bf16 [2, D]: start and end marker of an image."""
        tokens, table = self.config.tokens, self.decoder.embedding
        return torch.cat([table[token : token + 1] for token in (tokens.start_of_image, tokens.end_of_image)])

    def embed_latents(self, latents_NC: Tensor, t: Tensor, position_ids_N: Tensor) -> Tensor:
        """bf16 [N, D]: projected latents plus time plus position, rounded after each sum; ``t`` is [N] or [1]."""
        return self.latent_in(latents_NC) + self.time_embedder(t) + self.latent_positions[position_ids_N]


def build_bagel(source: Source, autoencoder_source: Source, config: BagelConfig, attention: Attention) -> Bagel:
    """Takes every parameter of ema.safetensors from ``source`` and of ae.safetensors from ``autoencoder_source``."""
    width = config.llm.hidden
    num_channels = config.autoencoder.z_channels * config.latent_patch**2
    return Bagel(
        config=config,
        attention=attention,
        decoder=build_decoder(source, config.llm),
        vit=build_vit(source, config.vit, width),
        autoencoder=build_autoencoder(autoencoder_source, config.autoencoder),
        time_embedder=TimeEmbedder(
            first=take_linear(source, "time_embedder.mlp.0", width, 2 * NUM_FREQUENCIES),
            second=take_linear(source, "time_embedder.mlp.2", width, width),
        ),
        latent_in=take_linear(source, "vae2llm", width, num_channels),
        latent_out=take_linear(source, "llm2vae", num_channels, width),
        latent_positions=source.take_table("latent_pos_embed.pos_embed", config.max_latent_size, width),
    )
