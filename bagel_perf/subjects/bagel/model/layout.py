"""Where each token of a packed sequence lies: what upstream's ``prepare_*`` functions know on the host.

Each fact is there twice, as device tensor and as host mirror. Whatever follows from it (index tensors, maxima, slices)
is derived inside a component, because that derivation is what the variants do differently.

Suffixes: P packed prefill positions, B branches, T rows of a query batch, N latent tokens, S merged KV rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

PLACEHOLDER_ID = -1
"""Token id at positions that an image embedding fills; it is never looked up."""

BlockKind = Literal["latent", "vit", "text"]
ContextName = Literal["main", "cfg_text", "cfg_img"]
Span = tuple[int, int]
Runs = tuple[tuple[BlockKind, int], ...]
"""Blocks of a context, as kind and number of rows."""
Parts = Sequence[tuple[ContextName, Runs]]
"""The contexts of a request, before anything is packed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Sequence lengths, as device tensor (int64 [B]) and host mirror."""

    device_B: Tensor
    host: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionSpan:
    """Rows [start, stop) whose queries and keys are normed and rotated in fp32 (``exact``) or in bf16."""

    start: int
    stop: int
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Consecutive rows of one context: an image (start marker, patches, end marker) or text (bos, tokens, eos)."""

    kind: BlockKind
    start: int
    length: int

    @property
    def stop(self) -> int:
        return self.start + self.length

    @property
    def patches(self) -> Span:
        """Rows of the image patches, without the two markers."""
        return self.start + 1, self.stop - 1

    @property
    def num_positions(self) -> int:
        """How far the block moves the rotary position on: an image shares one, text counts up."""
        return self.length if self.kind == "text" else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One guidance context of the prefill."""

    name: ContextName
    start: int
    blocks: tuple[Block, ...]

    @property
    def length(self) -> int:
        return sum(block.length for block in self.blocks)

    @property
    def stop(self) -> int:
        return self.start + self.length

    @property
    def next_position(self) -> int:
        """Rotary position of whatever follows the context."""
        return sum(block.num_positions for block in self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillLayout:
    """All contexts of a request in one packed sequence of P rows.

    ``token_ids_P`` (int64) holds ``PLACEHOLDER_ID`` throughout image blocks; ``positions_P`` (int64) counts each
    context from zero, as a serving engine hands it over. Component ``adjust_positions`` makes rotary positions of it.
    """

    contexts: tuple[Context, ...]
    token_ids_P: Tensor
    positions_P: Tensor

    @property
    def num_rows(self) -> int:
        return sum(context.length for context in self.contexts)

    @property
    def latent_spans(self) -> tuple[Span, ...]:
        """Rows of latent patches: those that take the generation weights."""
        return tuple(block.patches for block in self.blocks if block.kind == "latent")

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(block for context in self.contexts for block in context.blocks)

    @property
    def device(self) -> torch.device:
        return self.positions_P.device


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """What the prefill runs, and what it stands for.

    ``contexts`` are those of the request, packed as the denoise loop reads their keys and values. ``cache_spans`` are
    the rows of ``layout`` that hold them, in that order; None where ``layout`` holds just them.
    """

    layout: PrefillLayout
    contexts: tuple[Context, ...]
    cache_spans: tuple[Span, ...] | None = None


def complement(spans: Sequence[Span], num_rows: int) -> tuple[Span, ...]:
    """The rows of [0, num_rows) that no span covers, as spans; ``spans`` are in order and disjoint."""
    starts = [0, *(stop for _, stop in spans)]
    stops = [*(start for start, _ in spans), num_rows]
    return tuple((start, stop) for start, stop in zip(starts, stops, strict=True) if start < stop)


def precision_spans(layout: PrefillLayout) -> tuple[PrecisionSpan, ...]:
    """Precision of each row of the prefill: blocks of latents, markers included, are exact (reference/bagel.md A7)."""
    return _merge((block.length, block.kind == "latent") for block in layout.blocks)


def und_precision_spans(layout: PrefillLayout) -> tuple[PrecisionSpan, ...]:
    """The same over the packed understanding rows alone, where a block of latents leaves its two markers."""
    return _merge((2, True) if block.kind == "latent" else (block.length, False) for block in layout.blocks)


def _merge(runs: Iterable[tuple[int, bool]]) -> tuple[PrecisionSpan, ...]:
    """Runs of (length, exact) laid end to end; neighbours of equal precision become one span."""
    spans: list[PrecisionSpan] = []
    row = 0
    for length, exact in runs:
        start = spans.pop().start if spans and spans[-1].exact == exact else row
        row += length
        spans.append(PrecisionSpan(start=start, stop=row, exact=exact))
    return tuple(spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Which rows take which weight set, as far as a variant has worked it out.

    ``latent_spans`` is the host's knowledge. ``vae_mask_T`` (bool [T]) is upstream's device form in the prefill,
    ``und_rows`` and ``gen_rows`` (int64) its form in the denoise loop; ``has_und``, ``has_gen`` are None until asked.
    ``next_positions`` is the rotary position after each context of a prefill that is not empty.
    """

    num_rows: int
    latent_spans: tuple[Span, ...]
    vae_mask_T: Tensor | None = None
    und_rows: Tensor | None = None
    gen_rows: Tensor | None = None
    has_und: bool | None = None
    has_gen: bool | None = None
    next_positions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchOffsets:
    """First row of each of B branches among the queries of a batch, and in the merged KV, where its context begins."""

    queries: tuple[int, ...]
    merged: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryLayout:
    """One block of noisy latents (start marker, N latents, end marker), once per guidance branch.

    ``sequence`` describes the block, ``queries`` and ``past`` the batch of B branches: T = B (N + 2) query rows against
    S = sum(past + queries) merged KV rows, ordered past_0, query_0, past_1, query_1, ... All index tensors are int64.
    """

    sequence: Lengths
    marker_rows: Tensor
    latent_rows: Tensor
    latent_position_ids_N: Tensor
    queries: Lengths
    past: Lengths
    positions_T: Tensor
    query_kv_rows_T: Tensor
    past_kv_rows: Tensor
    routing: Routing

    @property
    def num_branches(self) -> int:
        return len(self.queries.host)

    @property
    def num_past_rows(self) -> int:
        """KV rows of the branches' contexts: a prefix of the packed cache."""
        return sum(self.past.host)

    @property
    def segments(self) -> tuple[tuple[Span, Span], ...]:
        """Per branch the rows of its queries and of its merged KV."""
        merged = [past + query for past, query in zip(self.past.host, self.queries.host, strict=True)]
        return tuple(zip(_spans(self.queries.host), _spans(merged), strict=True))


def _spans(lengths: Sequence[int]) -> list[Span]:
    stops = list(accumulate(lengths))
    return [(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]
