"""Measures a GPU's ceilings at the shapes of some requests, and from them the floor of each stage."""

from __future__ import annotations

import functools
import io
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

import kernels_baseline
from bagel_perf.harness.ceilings import attention_us, copy_tbps, gemm_us, launch_us
from bagel_perf.model.autoencoder import encode_moments
from bagel_perf.model.bagel import Bagel
from bagel_perf.model.denoise import render
from bagel_perf.model.layout import Parts
from bagel_perf.model.packing import contexts_of, edit_parts, text_parts
from bagel_perf.model.schedule import timesteps
from bagel_perf.model.vit import encode_image
from bagel_perf.schema.floors import Ceilings, Component, StageFloor
from bagel_perf.schema.requests import Request
from bagel_perf.schema.slots import as_stage
from bagel_perf.workload.edit import RequestInputs, encode_png
from bagel_perf.workload.work import Attend, Gemm, Pointwise, Work, prefill_work, step_work


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
        return attention_us(self._model.attention.full, shapes)


def measure_floors(
    model: Bagel, requests: Sequence[tuple[Request, RequestInputs, bytes]]
) -> tuple[Ceilings, tuple[StageFloor, ...]]:
    """Of requests with their host inputs and the PNG that they give; CUDA alone."""
    with torch.no_grad(), model.attention.scope():
        rates = Rates(model)
        floors = [floor for request in requests for floor in _floors_of(model, rates, *request)]
        return rates.ceilings(), tuple(floors)


def _floors_of(model: Bagel, rates: Rates, request: Request, inputs: RequestInputs, png: bytes) -> Iterator[StageFloor]:
    ar = [*_components(rates, prefilling(model, inputs))]
    gemm_tflops = rates.mean_tflops(Gemm)
    ar += [_at_gemm_rate(name, flops, gemm_tflops) for name, flops in _encoder_flops(model, inputs)]
    dit = [*_components(rates, denoising(model, inputs))]
    dit.append(_at_gemm_rate("autoencoder", _decoder_flops(model, inputs), gemm_tflops))
    dit.append(Component(name="PNG (host)", flops=0.0, bytes=0.0, floor_ms=_png_ms(png)))
    for stage, components in (("ar", ar), ("dit", dit)):
        yield StageFloor(
            width=request.width,
            height=request.height,
            stage=as_stage(stage),
            components=tuple(components),
        )


def _components(rates: Rates, work: Iterable[Work]) -> Iterator[Component]:
    """One for each name, in the order of first occurrence."""
    parts: dict[str, list[Work]] = {}
    for each in work:
        name = each.name if isinstance(each, Gemm) else "attention" if isinstance(each, Attend) else "pointwise"
        parts.setdefault(name, []).append(each)
    for name, listed in parts.items():
        flops = sum(each.flops for each in listed if not isinstance(each, Pointwise))
        num_bytes = sum(each.bytes for each in listed if not isinstance(each, Attend))
        yield Component(name=name, flops=flops, bytes=num_bytes, floor_ms=sum(map(rates.floor_ms, listed)))


def prefilling(model: Bagel, inputs: RequestInputs) -> Iterator[Work]:
    return prefill_work(model.config.llm, _parts(model, inputs))


def denoising(model: Bagel, inputs: RequestInputs) -> Iterator[Work]:
    """Guided and plain steps, as many as the schedule has of each."""
    sampling = inputs.sampling
    lower, upper = sampling.scales.interval
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


def _encoder_flops(model: Bagel, inputs: RequestInputs) -> Iterator[tuple[str, float]]:
    picture = inputs.picture
    if picture is None:
        return
    pixels = picture.vae_pixels.to(model.device)[None]
    with FlopCounterMode(display=False) as counter:
        encode_moments(model.autoencoder, pixels, model.attention)
    yield "autoencoder", float(counter.get_total_flops())
    with FlopCounterMode(display=False) as counter:
        encode_image(model.vit, picture.vit_pixels.to(model.device), model.attention)
    yield "ViT", float(counter.get_total_flops())


def _decoder_flops(model: Bagel, inputs: RequestInputs) -> float:
    with FlopCounterMode(display=False) as counter:
        render(model, inputs.noise_NC.to(model.device), inputs.sampling.grid, kernels_baseline.SLOTS)
    return float(counter.get_total_flops())


def _at_gemm_rate(name: str, flops: float, tflops: float) -> Component:
    return Component(name=name, flops=flops, bytes=0.0, floor_ms=flops / tflops / 1e9 if tflops else 0.0)


def _png_ms(png: bytes) -> float:
    """Least time of three encodings of the picture, by the encoder that every variant uses."""
    pixels = torch.from_numpy(np.array(Image.open(io.BytesIO(png))))
    times_ns = []
    for _ in range(3):
        begin_ns = time.perf_counter_ns()
        encode_png(pixels)
        times_ns.append(time.perf_counter_ns() - begin_ns)
    return min(times_ns) / 1e6
