"""The DiT stage: noise becomes latents under classifier-free guidance over three velocities, latents become a picture.

Guidance has the renormalizations of reference/bagel.md D2.

Suffixes: B branches, N latent tokens, C latent channels (64), T rows of a query batch, S merged KV rows, D model width,
H query heads, K KV heads, E head size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.autoencoder import decode as decode_latent
from bagel_perf.subjects.bagel.model.autoencoder import to_uint8
from bagel_perf.subjects.bagel.model.bagel import Bagel
from bagel_perf.subjects.bagel.model.contracts import Components, LayerCache, Step
from bagel_perf.subjects.bagel.model.decoder import Rows, decode, rotary_tables
from bagel_perf.subjects.bagel.model.layout import Lengths, PrecisionSpan, QueryLayout, Span
from bagel_perf.subjects.bagel.model.packing import latent_position_ids, pack_queries
from bagel_perf.subjects.bagel.model.prefill import ContextCache, unpack_latents
from bagel_perf.subjects.bagel.model.primitives import round_to_fp32, upload
from bagel_perf.syncs.regions import region

Renorm = Literal["global", "channel", "text_channel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidanceScales:
    """Scales, renormalization, and the times at which guidance applies: lower < t <= upper."""

    text_scale: float
    image_scale: float
    interval: tuple[float, float]
    renorm: Renorm
    renorm_min: float

    @property
    def num_branches(self) -> int:
        """How many velocities a guided step needs: main, without the text, without the picture."""
        if self.text_scale <= 1:
            return 1
        return 3 if self.image_scale > 1 else 2


def guide(v_BNC: Tensor, scales: GuidanceScales) -> Tensor:
    """The guided velocity [N, C] of bf16 velocities in the order main, cfg_text, cfg_img.

    "global" scales by one number and stays bf16; the per-token renormalizations promote to fp32.
    """
    main = v_BNC[0]
    if v_BNC.shape[0] == 1:
        return main
    guided = v_BNC[1] + scales.text_scale * (main - v_BNC[1])
    if scales.renorm == "text_channel":
        guided = _renormalize(guided, main, scales, dim=-1)
    if v_BNC.shape[0] == 3:
        guided = v_BNC[2] + scales.image_scale * (guided - v_BNC[2])
    if scales.renorm == "text_channel":
        return guided
    return _renormalize(guided, main, scales, dim=-1 if scales.renorm == "channel" else None)


def _renormalize(guided: Tensor, main: Tensor, scales: GuidanceScales, dim: int | None) -> Tensor:
    """Shrinks ``guided`` to the norm of ``main``, per token (dim -1) or over all elements (None); norms in fp32."""
    norms = [torch.linalg.vector_norm(v.float(), dim=dim, keepdim=dim is not None) for v in (main, guided)]
    shrink: Tensor = (norms[0] / (norms[1] + 1e-8)).clamp(min=scales.renorm_min, max=1.0)
    return guided * shrink


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How one picture is sampled; ``grid`` is rows and columns of latent tokens."""

    grid: tuple[int, int]
    num_timesteps: int
    shift: float
    scales: GuidanceScales


@dataclass(frozen=True, slots=True, kw_only=True)
class Branches:
    """One kind of step: the query batch, its rotary tables, and the KV of its contexts per layer.

    ``segments`` holds, per branch, the rows of its queries and of its merged KV.
    """

    layout: QueryLayout
    kv: Lengths
    segments: tuple[tuple[Span, Span], ...]
    rows: Rows
    caches: tuple[LayerCache, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiseState:
    """A request ready to be denoised: noise fp32 [N, C], and the branches of steps with and without guidance."""

    model: Bagel
    sampling: Sampling
    noise_NC: Tensor
    guided: Branches
    plain: Branches

    @property
    def sequence(self) -> Lengths:
        return self.plain.layout.sequence

    def steps(self, components: Components) -> Iterator[Step]:
        """The schedule, with the bounds of the guidance interval rounded to fp32."""
        sampling = self.sampling
        lower, upper = (round_to_fp32(bound) for bound in sampling.scales.interval)
        num_latents, device = self.noise_NC.shape[0], self.noise_NC.device
        return components.timestep_schedule(sampling.num_timesteps, sampling.shift, (lower, upper), num_latents, device)

    def advance(self, latents_NC: Tensor, step: Step, components: Components) -> Tensor:
        """One Euler step towards the data: x - v dt (reference/bagel.md D1)."""
        with region("step"):
            return latents_NC - self.velocity(latents_NC, step, components) * step.dt

    def velocity(self, latents_NC: Tensor, step: Step, components: Components) -> Tensor:
        """The guided velocity [N, C]: bf16, or fp32 where the renormalization promotes it."""
        model, branches = self.model, self.guided if step.in_window else self.plain
        layout = branches.layout

        def attend(index: int, q_THE: Tensor, k_TKE: Tensor, v_TKE: Tensor) -> Tensor:
            keys, values = components.merge_kv(branches.caches[index], k_TKE, v_TKE, layout)
            lengths = components.attention_lengths(layout.queries, branches.kv)
            return model.attention.varlen(q_THE, keys, values, lengths, branches.segments)

        x_TD = components.step_input(model, latents_NC, step, layout).repeat(layout.num_branches, 1)
        hidden_TD = decode(model.decoder, x_TD, branches.rows, attend)
        with region("guide"):
            v_BNC = torch.stack([model.latent_out(h)[layout.latent_rows] for h in hidden_TD.chunk(layout.num_branches)])
            return guide(v_BNC, self.sampling.scales)


def prepare(
    model: Bagel, cache: ContextCache, noise_NC: Tensor, sampling: Sampling, components: Components
) -> DenoiseState:
    """Uploads the noise (host fp32 [N, C]) and lays out both kinds of step."""
    position_ids = latent_position_ids(*sampling.grid, model.config.max_latent_size, model.device)
    plain = _branches(model, cache, 1, position_ids, components)
    num_branches = sampling.scales.num_branches
    guided = plain if num_branches == 1 else _branches(model, cache, num_branches, position_ids, components)
    return DenoiseState(
        model=model, sampling=sampling, noise_NC=upload(noise_NC, model.device), guided=guided, plain=plain
    )


def _branches(
    model: Bagel, cache: ContextCache, num_branches: int, position_ids_N: Tensor, components: Components
) -> Branches:
    contexts, positions = cache.contexts[:num_branches], cache.next_positions[:num_branches]
    layout = pack_queries(contexts, positions, position_ids_N, components.branch_offsets)
    cos, sin = rotary_tables(layout.positions_T, model.decoder.config)
    # Latents and their markers alike: every row of a query block is exact, whichever weights it takes.
    num_rows, num_markers = layout.routing.num_rows, 2 * layout.num_branches
    rows = Rows(
        routing=layout.routing,
        route=components.route_experts,
        spans=(PrecisionSpan(start=0, stop=num_rows, exact=True),),
        und_spans=(PrecisionSpan(start=0, stop=num_markers, exact=True),),
        cos_T1E=cos,
        sin_T1E=sin,
    )
    kv = Lengths(
        device_B=layout.past.device_B + layout.queries.device_B,
        host=tuple(past + query for past, query in zip(layout.past.host, layout.queries.host, strict=True)),
    )
    used = layout.num_past_rows
    caches = tuple(LayerCache(key_PKE=c.key_PKE[:used], value_PKE=c.value_PKE[:used]) for c in cache.layers)
    return Branches(layout=layout, kv=kv, segments=layout.segments, rows=rows, caches=caches)


def render(model: Bagel, latents_NC: Tensor, grid: tuple[int, int], components: Components) -> Tensor:
    """The picture of clean latents, uint8 [H, W, 3] on the device."""
    with region("render"):
        latent = unpack_latents(latents_NC, *grid)
        return to_uint8(decode_latent(model.autoencoder, latent, model.attention, components.norm_activate))
