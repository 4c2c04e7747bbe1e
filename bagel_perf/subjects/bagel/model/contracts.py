"""The twelve components: one typed signature each, which every variant implements.

A component is a named piece of BAGEL's control flow. The model calls components and never asks which variant they come
from, so one copy of the weights serves all of them.

Suffixes: P packed prefill positions, T rows of a query batch, N latent tokens, S merged KV rows, K KV heads, E head
size, B branches, C latent channels (64), D model width. M patches of the ViT. In pictures C channels, H and W rows and
columns, 1 for a batch of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.layout import (
    BranchOffsets,
    Lengths,
    Packing,
    Parts,
    PrefillLayout,
    QueryLayout,
    Routing,
)

Expert = Callable[[Tensor], Tensor]
"""A row-wise function of one weight set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VarlenLengths:
    """What a variable-length attention kernel asks for: maxima as host ints, offsets as int32 [B + 1] on the device."""

    max_query: int
    max_kv: int
    query_offsets: Tensor
    kv_offsets: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCache:
    """Rotated keys and values of one layer, all contexts packed: bf16 [P, K, E] each."""

    key_PKE: Tensor
    value_PKE: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One denoise iteration: times t in [0, 1] as fp32 [N], dt as fp32 0-d, and whether guidance applies."""

    t_N: Tensor
    dt: Tensor
    in_window: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupNorm:
    """Scale and shift, fp32 [C] each, of channels that are normed in groups of neighbours over all positions."""

    weight: Tensor
    bias: Tensor
    num_groups: int
    eps: float


class Embedder(Protocol):
    """The part of the model that ``step_input`` calls."""

    def embed_markers(self) -> Tensor:
        """Embedded start and end marker of an image, bf16 [2, D]."""
        ...

    def embed_latents(self, latents_NC: Tensor, t: Tensor, position_ids_N: Tensor) -> Tensor:
        """Embedded latents, bf16 [N, D], at times ``t`` (fp32 [N] or [1])."""
        ...


class Denoising(Protocol):
    """A request ready to be denoised, as ``denoise_loop`` sees it."""

    @property
    def noise_NC(self) -> Tensor:
        """Latents at t = 1, fp32 [N, 64]."""
        ...

    @property
    def sequence(self) -> Lengths:
        """Length of the one query block, N + 2."""
        ...

    def steps(self, components: Components) -> Iterator[Step]:
        """The steps of component ``timestep_schedule`` for this request."""
        ...

    def advance(self, latents_NC: Tensor, step: Step, components: Components) -> Tensor:
        """Latents fp32 [N, 64] one step closer to the data."""
        ...


class PictureEncoding(Protocol):
    """The picture of an edit, as ``encode_picture`` sees it."""

    def latents(self, normalize: NormActivate) -> Tensor:
        """The picture's latents as decoder rows, bf16 [N, D]; ``normalize`` is used by the autoencoder's encoder."""
        ...

    def patches(self) -> Tensor:
        """The picture's patches, by the ViT, as decoder rows, bf16 [M, D]."""
        ...


class Prefilling(Protocol):
    """Embedded rows of all contexts, as ``prefill_layers`` sees them."""

    def layers(self) -> tuple[LayerCache, ...]:
        """Keys and values of every layer, by way of ``route_experts``."""
        ...


class EncodePicture(Protocol):
    def __call__(self, picture: PictureEncoding) -> tuple[Tensor, Tensor]:
        """The latents [N, D] and the patches [M, D] of the picture, bf16."""
        ...


class PackContexts(Protocol):
    def __call__(self, parts: Parts, prompt_ids: Sequence[int], device: torch.device) -> Packing:
        """Which rows the prefill runs for the contexts of a request."""
        ...


class AdjustPositions(Protocol):
    def __call__(self, positions_P: Tensor, layout: PrefillLayout) -> tuple[Tensor, Routing]:
        """Rotary positions (int64 [P]) and routing of the prefill, from positions that count each context from zero."""
        ...


class PrefillLayers(Protocol):
    def __call__(self, state: Prefilling) -> tuple[LayerCache, ...]:
        """Rotated keys and values of every layer for all rows of the prefill."""
        ...


class RouteExperts(Protocol):
    def __call__(self, x: Tensor, routing: Routing, und: Expert, gen: Expert, *, check_und: bool = False) -> Tensor:
        """Applies ``und`` to understanding rows and ``gen`` to latent rows of x [T, ...]; gives y [T, ...].

        ``check_und`` marks the place where upstream also asks whether there are understanding rows at all.
        """
        ...


class AttentionLengths(Protocol):
    def __call__(self, query: Lengths, kv: Lengths) -> VarlenLengths:
        """Maxima and offsets of B segments."""
        ...


class MergeKv(Protocol):
    def __call__(
        self, cache: LayerCache, key_TKE: Tensor, value_TKE: Tensor, layout: QueryLayout
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [S, K, E] of all branches: each branch's context rows, then its query rows."""
        ...


class LocateBranches(Protocol):
    def __call__(self, sequence: Lengths, past: Lengths) -> BranchOffsets:
        """Where each of B branches begins, from the length of the one query block and those of the B contexts."""
        ...


class TimestepSchedule(Protocol):
    def __call__(
        self, num_timesteps: int, shift: float, interval: tuple[float, float], num_latents: int, device: torch.device
    ) -> Iterator[Step]:
        """The num_timesteps - 1 steps of flow matching from t = 1 to 0; guidance applies where lower < t <= upper.

        The bounds of ``interval`` are fp32 values, because a device comparison rounds them to fp32.
        """
        ...


class StepInput(Protocol):
    def __call__(self, model: Embedder, latents_NC: Tensor, step: Step, layout: QueryLayout) -> Tensor:
        """The embedded query block, bf16 [N + 2, D]: start marker, noisy latents, end marker."""
        ...


class DenoiseLoop(Protocol):
    def __call__(self, state: Denoising, components: Components) -> Tensor:
        """Integrates the velocity from noise to latents, fp32 [N, 64]."""
        ...


class NormActivate(Protocol):
    def __call__(self, x_1CHW: Tensor, norm: GroupNorm, *, activate: bool) -> Tensor:
        """Norm of an activation of the autoencoder, with ``activate`` followed by SiLU; computed in fp32.

        The result [1, C, H, W] is fp32, or bf16 already, to which the convolution that takes it rounds it.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """One implementation per component. A variant is such a table; mixtures are made with ``dataclasses.replace``."""

    encode_picture: EncodePicture
    pack_contexts: PackContexts
    adjust_positions: AdjustPositions
    prefill_layers: PrefillLayers
    route_experts: RouteExperts
    attention_lengths: AttentionLengths
    merge_kv: MergeKv
    branch_offsets: LocateBranches
    timestep_schedule: TimestepSchedule
    step_input: StepInput
    denoise_loop: DenoiseLoop
    norm_activate: NormActivate
