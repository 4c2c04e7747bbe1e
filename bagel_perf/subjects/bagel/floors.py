"""What a request has to compute, whatever the variant, and the floor of each stage at the ceilings that a GPU reaches.

Counted are matrix products, attention, and bytes of pointwise work. Each context's picture counts once, as a variant
may that shares it. Left out, as less than a hundredth: embeddings, the latents' own linear layers, guidance, and
attention of text.
"""

from __future__ import annotations

import functools
import io
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

import kernels_baseline
from bagel_perf.measure.device_work import attention_us, copy_tbps, gemm_us, launch_us
from bagel_perf.records.bagel import Request
from bagel_perf.records.results import Ceilings, Component, StageFloor
from bagel_perf.subjects.bagel.edit import RequestInputs
from bagel_perf.subjects.bagel.model.autoencoder import encode_moments
from bagel_perf.subjects.bagel.model.bagel import Bagel
from bagel_perf.subjects.bagel.model.config import LlmConfig
from bagel_perf.subjects.bagel.model.denoise import render
from bagel_perf.subjects.bagel.model.layout import Parts
from bagel_perf.subjects.bagel.model.packing import contexts_of, edit_parts, text_parts
from bagel_perf.subjects.bagel.model.primitives import norm_activate, round_to_fp32, timesteps
from bagel_perf.subjects.bagel.model.vit import encode_image
from bagel_perf.subjects.bagel.png import encode_png

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


def decoder_work(
    config: LlmConfig, num_gen: int, num_und: int, num_layers: int, num_projected: int = 0
) -> Iterator[Work]:
    """Linear layers and pointwise work of decoder layers over packed rows; ``num_projected`` end with their keys."""
    width, heads = config.hidden, config.num_heads * config.head_dim
    qkv = heads + 2 * config.num_kv_heads * config.head_dim
    for name, rows in (("gen GEMMs", num_gen), ("und GEMMs", num_und)):
        yield Gemm(name, rows, width, qkv, num_layers + num_projected)
        yield Gemm(name, rows, heads, width, num_layers)
        yield Gemm(name, rows, width, 2 * config.intermediate, num_layers)
        yield Gemm(name, rows, config.intermediate, width, num_layers)
    # A norm of a sum reads two rows and writes two; queries, keys and values in and out; gate and up in, product out.
    projected = 4 * width + 2 * qkv
    values = (num_layers + num_projected) * projected + num_layers * (4 * width + 3 * config.intermediate)
    yield Pointwise(float(BF16_BYTES * (num_gen + num_und) * values))


def step_work(config: LlmConfig, num_latents: int, past: tuple[int, ...], times: int) -> Iterator[Work]:
    """``times`` denoise steps; ``past`` is the length of each branch's context."""
    yield from decoder_work(config, num_latents * len(past), 2 * len(past), config.num_layers * times)
    width = config.num_heads * config.head_dim
    for length in past:
        yield Attend(num_latents + 2, length + num_latents + 2, width, config.num_layers * times)


def prefill_work(config: LlmConfig, parts: Parts) -> Iterator[Work]:
    """The prefill of the contexts, whose last layer ends with its keys; one that begins another is part of it."""
    own = [runs for index, (_, runs) in enumerate(parts) if not any(_begins(runs, r) for _, r in parts[:index])]
    blocks = [block for runs in own for block in runs]
    num_gen = sum(length - 2 for kind, length in blocks if kind == "latent")
    num_layers = config.num_layers - 1
    yield from decoder_work(config, num_gen, sum(length for _, length in blocks) - num_gen, num_layers, 1)
    for runs in own:
        before = 0
        for kind, length in runs:
            before += length
            if kind != "text":
                yield Attend(length, before, config.num_heads * config.head_dim, num_layers)


def _begins(runs: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return other[: len(runs)] == runs


NUM_ENCODINGS = 15
"""Of a PNG, by a host whose speed varies: 15 of 1024x1024 take a second."""


class Rates:
    """Measures each shape once; flops and time of all that was asked for make the mean rates."""

    def __init__(self, model: Bagel) -> None:
        self._model = model
        self.copy_tbps = copy_tbps(model.device)
        self.total: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._gemm = functools.cache(gemm_us)
        self._attention = functools.cache(self._attention_us)

    def floor_ms(self, work: Work) -> float:
        """The least time of some work at the measured rates."""
        if isinstance(work, Pointwise):
            return work.bytes / self.copy_tbps / 1e9
        if isinstance(work, Gemm):
            each_us = self._gemm(work.rows, work.num_in, work.num_out, self._model.device) if work.rows else 0.0
        else:
            each_us = self._attention(work.queries, work.keys)
        total = self.total[type(work).__name__]
        total[0] += work.flops
        total[1] += each_us * work.count
        return each_us * work.count / 1e3

    def mean_tflops(self, kind: type[Work]) -> float:
        """Over all work of a kind that was asked for; 0 where there was none."""
        flops, us = self.total[kind.__name__]
        return flops / us / 1e6 if us else 0.0

    def ceilings(self) -> Ceilings:
        """Means over all work that was asked for so far, the rate of a large copy, and the cost of a launch."""
        return Ceilings(
            gemm_tflops=self.mean_tflops(Gemm),
            attention_tflops=self.mean_tflops(Attend),
            copy_tbps=self.copy_tbps,
            launch_us=launch_us(self._model.device),
        )

    def _attention_us(self, queries: int, keys: int) -> float:
        config = self._model.config.llm
        heads = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
        shapes = tuple((rows, n, config.head_dim) for rows, n in zip((queries, keys, keys), heads, strict=True))
        return attention_us(self._model.attention.full, shapes, self._model.device)


def measure_floors(
    model: Bagel, requests: Sequence[tuple[Request, RequestInputs, bytes]]
) -> tuple[Ceilings, tuple[StageFloor, ...]]:
    """Of requests with their host inputs and the PNG that they give; CUDA alone."""
    with torch.no_grad(), model.attention.scope():
        rates = Rates(model)
        transformers = [
            [[*_components(rates, work(model, inputs))] for work in (prefilling, denoising)]
            for _, inputs, _ in requests
        ]
        ceilings = rates.ceilings()  # of all requests, before any component takes their mean
        floors = [
            floor
            for (request, inputs, png), (ar, dit) in zip(requests, transformers, strict=True)
            for floor in (
                _floor(request, "ar", [*ar, *_encoders(model, inputs, ceilings)]),
                _floor(request, "dit", [*dit, _decoder(model, inputs, ceilings), _png(png)]),
            )
        ]
        return ceilings, tuple(floors)


def _floor(request: Request, stage: str, components: Sequence[Component]) -> StageFloor:
    return StageFloor(case=request.case, stage=stage, components=tuple(components))


def _components(rates: Rates, work: Iterable[Work]) -> Iterator[Component]:
    """One for each name, in the order of first occurrence."""
    parts: dict[str, list[Work]] = {}
    for each in work:
        name = each.name if isinstance(each, Gemm) else "attention" if isinstance(each, Attend) else "pointwise"
        parts.setdefault(name, []).append(each)
    for name, listed in parts.items():
        flops = [each.flops for each in listed if not isinstance(each, Pointwise)]
        num_bytes = [each.bytes for each in listed if not isinstance(each, Attend)]
        yield Component(
            name=name,
            flops=sum(flops) if flops else None,
            bytes=sum(num_bytes) if num_bytes else None,
            floor_ms=sum(map(rates.floor_ms, listed)),
        )


def prefilling(model: Bagel, inputs: RequestInputs) -> Iterator[Work]:
    """Of all contexts, as the baseline packs them."""
    return prefill_work(model.config.llm, _parts(model, inputs))


def denoising(model: Bagel, inputs: RequestInputs) -> Iterator[Work]:
    """Guided and plain steps, as many as the schedule has of each."""
    sampling = inputs.sampling
    lower, upper = map(round_to_fp32, sampling.scales.interval)
    times = timesteps(sampling.num_timesteps, sampling.shift, torch.device("cpu"))[:-1].tolist()
    num_guided = sum(lower < t <= upper for t in times)
    past = tuple(context.length for context in contexts_of(_parts(model, inputs)))
    num_latents = inputs.noise_NC.shape[0]
    branches = past[: sampling.scales.num_branches]
    for lengths, number in ((branches, num_guided), (past[:1], len(times) - num_guided)):
        if number:
            yield from step_work(model.config.llm, num_latents, lengths, number)


def _parts(model: Bagel, inputs: RequestInputs) -> Parts:
    if inputs.picture is None:
        return text_parts(len(inputs.prompt_ids))
    patch = model.config.vit.patch
    rows, columns = (side // patch for side in inputs.picture.vit_pixels.shape[-2:])
    return edit_parts(len(inputs.prompt_ids), inputs.noise_NC.shape[0], rows * columns)


def _encoders(model: Bagel, inputs: RequestInputs, ceilings: Ceilings) -> Iterator[Component]:
    picture = inputs.picture
    if picture is None:
        return
    pixels = picture.vae_pixels.to(model.device)[None]
    with FlopCounterMode(display=False) as counter:
        encode_moments(model.autoencoder, pixels, model.attention, norm_activate)
    yield _at_gemm_rate("autoencoder", counter.get_total_flops(), ceilings)
    with FlopCounterMode(display=False) as counter:
        encode_image(model.vit, picture.vit_pixels.to(model.device), model.attention)
    yield _at_gemm_rate("ViT", counter.get_total_flops(), ceilings)


def _decoder(model: Bagel, inputs: RequestInputs, ceilings: Ceilings) -> Component:
    with FlopCounterMode(display=False) as counter:
        render(model, inputs.noise_NC.to(model.device), inputs.sampling.grid, kernels_baseline.COMPONENTS)
    return _at_gemm_rate("autoencoder", counter.get_total_flops(), ceilings)


def _at_gemm_rate(name: str, flops: int, ceilings: Ceilings) -> Component:
    """What is made of convolutions and GEMMs of many shapes, at the mean rate of those that were measured."""
    return Component(name=name, flops=float(flops), bytes=None, floor_ms=flops / ceilings.gemm_tflops / 1e9)


def _png(png: bytes) -> Component:
    """At the least time of some encodings of the picture, by the encoder that every variant uses."""
    pixels = np.array(Image.open(io.BytesIO(png)))
    times_ns = []
    for _ in range(NUM_ENCODINGS):
        begin_ns = time.perf_counter_ns()
        encode_png(pixels)
        times_ns.append(time.perf_counter_ns() - begin_ns)
    return Component(name="PNG (host)", flops=None, bytes=None, floor_ms=min(times_ns) / 1e6)
