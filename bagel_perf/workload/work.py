"""What a request has to compute, whatever the variant: matrix products, attention, and bytes of pointwise work.

Counts each context's picture once, as a variant may that shares it. Left out, as less than a hundredth: embeddings, the
latents' own linear layers, guidance, and attention of text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bagel_perf.model.config import LlmConfig
from bagel_perf.model.layout import Parts

BF16_BYTES = 2


@dataclass(frozen=True, slots=True)
class Gemm:
    """``count`` products [rows, num_in] x [num_in, num_out] in bf16."""

    name: str
    rows: int
    num_in: int
    num_out: int
    count: int

    @property
    def flops(self) -> float:
        return 2.0 * self.rows * self.num_in * self.num_out * self.count

    @property
    def bytes(self) -> float:
        elements = self.rows * (self.num_in + self.num_out) + self.num_in * self.num_out
        return float(BF16_BYTES * elements * self.count)


@dataclass(frozen=True, slots=True)
class Attend:
    """``count`` times full attention of queries over keys, with the decoder's heads; ``width`` is heads times size."""

    queries: int
    keys: int
    width: int
    count: int

    @property
    def flops(self) -> float:
        return 4.0 * self.queries * self.keys * self.width * self.count


@dataclass(frozen=True, slots=True)
class Pointwise:
    """Bytes that norms, rotations and activations read and write when each is one kernel."""

    bytes: float


Work = Gemm | Attend | Pointwise


def decoder_work(config: LlmConfig, num_gen: int, num_und: int, times: int) -> Iterator[Work]:
    """Linear layers and pointwise work of the decoder over packed rows, ``times`` over."""
    count = config.num_layers * times
    width, heads = config.hidden, config.num_heads * config.head_dim
    qkv = heads + 2 * config.num_kv_heads * config.head_dim
    for name, rows in (("gen GEMMs", num_gen), ("und GEMMs", num_und)):
        for num_in, num_out in ((width, qkv), (heads, width), (width, 2 * config.intermediate)):
            yield Gemm(name, rows, num_in, num_out, count)
        yield Gemm(name, rows, config.intermediate, width, count)
    # Two norms of a sum (read two rows, write two), queries, keys and values in and out, gate and up in, product out.
    values = 2 * 4 * width + 2 * qkv + 3 * config.intermediate
    yield Pointwise(float(BF16_BYTES * (num_gen + num_und) * values * count))


def step_work(config: LlmConfig, num_latents: int, past: tuple[int, ...], times: int) -> Iterator[Work]:
    """``times`` denoise steps; ``past`` is the length of each branch's context."""
    yield from decoder_work(config, num_latents * len(past), 2 * len(past), times)
    width = config.num_heads * config.head_dim
    for length in past:
        yield Attend(num_latents + 2, length + num_latents + 2, width, config.num_layers * times)


def prefill_work(config: LlmConfig, parts: Parts) -> Iterator[Work]:
    """The prefill of the contexts; one that begins another is part of it."""
    own = [runs for index, (_, runs) in enumerate(parts) if not any(_begins(runs, r) for _, r in parts[:index])]
    blocks = [block for runs in own for block in runs]
    num_gen = sum(length - 2 for kind, length in blocks if kind == "latent")
    yield from decoder_work(config, num_gen, sum(length for _, length in blocks) - num_gen, 1)
    for runs in own:
        before = 0
        for kind, length in runs:
            before += length
            if kind != "text":
                yield Attend(length, before, config.num_heads * config.head_dim, config.num_layers)


def _begins(runs: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return other[: len(runs)] == runs
