"""The AR stage: picture and prompt become a KV cache, all guidance contexts in one packed prefill.

Of latents as a picture 2x2 positions make one token, channels fastest.

Suffixes: P packed prefill rows, or with Q the two positions of a patch of latents, N latent tokens, M ViT patches, C
channels, D model width, H query heads, K KV heads, E head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.autoencoder import encode_moments, sample_latent
from bagel_perf.subjects.bagel.model.bagel import Bagel
from bagel_perf.subjects.bagel.model.contracts import Components, LayerCache, NormActivate
from bagel_perf.subjects.bagel.model.decoder import Rows, decode, rotary_tables
from bagel_perf.subjects.bagel.model.layout import (
    Context,
    Packing,
    Parts,
    PrefillLayout,
    Routing,
    precision_spans,
    und_precision_spans,
)
from bagel_perf.subjects.bagel.model.packing import edit_parts, latent_position_ids, text_parts
from bagel_perf.subjects.bagel.model.primitives import upload
from bagel_perf.subjects.bagel.model.vit import encode_image

PATCH = 2


def patchify_latents(latent_1CHW: Tensor) -> Tensor:
    """[1, C, 2h, 2w] -> [N, 4C] with N = h w in row-major order and columns (p, q, c) (reference/bagel.md A4)."""
    _, num_channels, height, width = latent_1CHW.shape
    latent_CHPWQ = latent_1CHW.reshape(num_channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return latent_CHPWQ.permute(1, 3, 2, 4, 0).reshape(-1, PATCH * PATCH * num_channels)


def unpack_latents(latents_NC: Tensor, rows: int, cols: int) -> Tensor:
    """[N, 4C] -> [1, C, 2 rows, 2 cols], the inverse of ``patchify_latents`` (reference/bagel.md D4)."""
    latents_HWPQC = latents_NC.reshape(rows, cols, PATCH, PATCH, -1)
    return latents_HWPQC.permute(4, 0, 2, 1, 3).reshape(1, -1, PATCH * rows, PATCH * cols)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureInput:
    """The input picture on the host: pixels in [-1, 1], fp32, and the noise of its encoding.

    ``vae_pixels`` [3, H, W], ``vit_pixels`` [3, H', W'], ``noise`` [1, z, H / 8, W / 8].
    """

    vae_pixels: Tensor
    vit_pixels: Tensor
    noise: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextCache:
    """What the AR stage hands over: rotated KV of all contexts, packed in the order of ``contexts``.

    ``next_positions`` holds, for each context, the rotary position of whatever follows it.
    """

    contexts: tuple[Context, ...]
    next_positions: tuple[int, ...]
    layers: tuple[LayerCache, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingState:
    """A picture ready to be encoded."""

    model: Bagel
    picture: PictureInput

    def latents(self, normalize: NormActivate) -> Tensor:
        """The latents as decoder rows, bf16 [N, D]."""
        model, picture = self.model, self.picture
        pixels = upload(picture.vae_pixels, model.device)[None]
        moments = encode_moments(model.autoencoder, pixels, model.attention, normalize)
        latent = sample_latent(model.config.autoencoder, moments, upload(picture.noise, model.device))
        position_ids = latent_position_ids(*grid_of(model, latent), model.config.max_latent_size, model.device)
        clean = torch.zeros(1, device=model.device)
        return model.embed_latents(patchify_latents(latent), clean, position_ids)

    def patches(self) -> Tensor:
        """The ViT's patches as decoder rows, bf16 [M, D]."""
        model = self.model
        return encode_image(model.vit, upload(self.picture.vit_pixels, model.device), model.attention)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillState:
    """Embedded rows of all contexts, bf16 [P, D], and what the decoder has to know of them."""

    model: Bagel
    layout: PrefillLayout
    rows: Rows
    x_PD: Tensor

    def layers(self) -> tuple[LayerCache, ...]:
        """Keys and values of every layer; the final norm, of which nothing is kept, runs as upstream."""
        caches: list[LayerCache] = []

        def attend(_: int, q_PHE: Tensor, k_PKE: Tensor, v_PKE: Tensor) -> Tensor:
            # The slice of the fused projection is copied, so that the cache does not keep the queries alive.
            caches.append(LayerCache(key_PKE=k_PKE, value_PKE=v_PKE.contiguous()))
            return _attend_blocks(self.model.attention, q_PHE, k_PKE, caches[-1].value_PKE, self.layout)

        decode(self.model.decoder, self.x_PD, self.rows, attend)
        return tuple(caches)


def prefill(model: Bagel, prompt_ids: list[int], picture: PictureInput | None, components: Components) -> ContextCache:
    """Runs the AR stage of an edit, or of text to image where ``picture`` is None."""
    encoded = components.encode_picture(EncodingState(model=model, picture=picture)) if picture else None
    packing = components.pack_contexts(_parts(prompt_ids, encoded), prompt_ids, model.device)
    layout = packing.layout
    x_PD = _embed(model, prompt_ids, layout, encoded)
    positions_P, routing = components.adjust_positions(layout.positions_P, layout)
    rows = _rows(model, positions_P, routing, layout, components)
    caches = components.prefill_layers(PrefillState(model=model, layout=layout, rows=rows, x_PD=x_PD))
    return ContextCache(
        contexts=packing.contexts,
        next_positions=_next_positions(packing, routing),
        layers=tuple(_selected(cache, packing) for cache in caches),
    )


def _next_positions(packing: Packing, routing: Routing) -> tuple[int, ...]:
    """As the prefill found them; a context that it did not run to its end has the host's."""
    occupied = [context for context in packing.layout.contexts if context.blocks]
    found = {(each.name, each.length): after for each, after in zip(occupied, routing.next_positions, strict=True)}
    return tuple(found.get((context.name, context.length), context.next_position) for context in packing.contexts)


def _selected(cache: LayerCache, packing: Packing) -> LayerCache:
    """The rows of the request's contexts."""
    spans = packing.cache_spans
    if spans is None:
        return cache
    keys, values = ([part[start:stop] for start, stop in spans] for part in (cache.key_PKE, cache.value_PKE))
    return LayerCache(key_PKE=torch.cat(keys), value_PKE=torch.cat(values))


def grid_of(model: Bagel, latent: Tensor) -> tuple[int, int]:
    """Rows and columns of latent tokens of a latent [1, z, h, w]."""
    patch = model.config.latent_patch
    return latent.shape[-2] // patch, latent.shape[-1] // patch


def _parts(prompt_ids: list[int], encoded: tuple[Tensor, Tensor] | None) -> Parts:
    if encoded is None:
        return text_parts(len(prompt_ids))
    latents_ND, patches_MD = encoded
    return edit_parts(len(prompt_ids), latents_ND.shape[0], patches_MD.shape[0])


def _embed(model: Bagel, prompt_ids: list[int], layout: PrefillLayout, encoded: tuple[Tensor, Tensor] | None) -> Tensor:
    """The embedded rows of all contexts, bf16 [P, D]."""
    tokens = model.config.tokens
    ids = torch.tensor([tokens.start_of_image, tokens.end_of_image, *prompt_ids])
    embedded = model.decoder.embedding[upload(ids, model.device)]
    start, end, text = embedded[:1], embedded[1:2], embedded[2:]
    parts: list[Tensor] = []
    for block in layout.blocks:
        if block.kind == "text":
            parts.append(text)
        else:
            assert encoded is not None
            latents_ND, patches_MD = encoded
            parts += [start, latents_ND if block.kind == "latent" else patches_MD, end]
    return torch.cat(parts)


def _rows(model: Bagel, positions_P: Tensor, routing: Routing, layout: PrefillLayout, components: Components) -> Rows:
    cos, sin = rotary_tables(positions_P, model.decoder.config)
    return Rows(
        routing=routing,
        route=components.route_experts,
        spans=precision_spans(layout),
        und_spans=und_precision_spans(layout),
        cos_T1E=cos,
        sin_T1E=sin,
    )


def _attend_blocks(attention: Attention, q_PHE: Tensor, k_PKE: Tensor, v_PKE: Tensor, layout: PrefillLayout) -> Tensor:
    """Each block sees its context up to its own end: an image block all of it, text causally."""
    out_PHE = torch.empty_like(q_PHE)
    for context in layout.contexts:
        for block in context.blocks:
            keys, values = k_PKE[context.start : block.stop], v_PKE[context.start : block.stop]
            attend = attention.causal if block.kind == "text" else attention.full
            out_PHE[block.start : block.stop] = attend(q_PHE[block.start : block.stop], keys, values)
    return out_PHE
