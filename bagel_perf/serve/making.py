"""Makes the picture of a request through the stages that ``compare`` measures, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from bagel_perf.measure.stages import WallClock, time_stages
from bagel_perf.records.bagel import Request
from bagel_perf.records.errors import UsageError
from bagel_perf.serve.asking import Asked
from bagel_perf.serve.pictures import read_picture
from bagel_perf.serve.refusals import from_usage
from bagel_perf.subjects.bagel.edit import RequestInputs, edit_subject, request_inputs
from bagel_perf.subjects.bagel.loading import Loaded, bind
from bagel_perf.subjects.bagel.model.config import BagelConfig

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """How the KV cache went from AR to DiT: bytes, wall clock, and by what."""

    num_bytes: int
    latency_ms: float
    transport: str

    @property
    def gb_per_s(self) -> float:
        return self.num_bytes / self.latency_ms / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A picture as PNG, the latency of its stages, and the most that torch's allocator held; None where unknown.

    Where the stages are split, ``dit_wait_ms`` is the wait for a free process of DiT.
    """

    png: bytes
    ar_ms: float
    dit_ms: float
    peak_memory_mb: float | None
    hand_over: HandOver | None = None
    dit_wait_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the server has to know of the model, wherever that is."""

    config: BagelConfig
    preset: str
    device_name: str
    is_cuda: bool


def facts_of(loaded: Loaded) -> ModelFacts:
    """Facts of a model in this process."""
    return ModelFacts(
        config=loaded.model.config,
        preset=str(loaded.details["preset"]),
        device_name=loaded.environment.device_name,
        is_cuda=loaded.model.device.type == "cuda",
    )


class Maker(Protocol):
    """Makes pictures; ``num_at_once`` requests are under way in it, each in a thread of its caller's."""

    @property
    def facts(self) -> ModelFacts: ...

    @property
    def num_at_once(self) -> int: ...

    def make(self, inputs: RequestInputs) -> Made: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OneProcess:
    """Both stages on the device of a model, one request at a time."""

    loaded: Loaded
    variant: str

    @property
    def facts(self) -> ModelFacts:
        return facts_of(self.loaded)

    @property
    def num_at_once(self) -> int:
        return 1

    def make(self, inputs: RequestInputs) -> Made:
        """Times each stage between two synchronizations."""
        device = self.loaded.model.device
        peak = PeakMemory(device)
        with released_after_failure(device):
            subject = edit_subject(self.loaded.model, inputs, bind(self.variant))
            outcome = time_stages(subject, WallClock(device=device))
        return Made(
            png=outcome.output,
            ar_ms=outcome.latency_ms["ar"],
            dit_ms=outcome.latency_ms["dit"],
            peak_memory_mb=peak.read_mb(),
        )

    def close(self) -> None:
        """Has nothing to end."""


class PeakMemory:
    """The most bytes that torch's allocator holds on a device from now on; unknown off CUDA."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def read_mb(self) -> float | None:
        """MiB, None where it is unknown."""
        return torch.cuda.max_memory_allocated(self._device) / MIB if self._device.type == "cuda" else None


@contextmanager
def released_after_failure(device: torch.device) -> Iterator[None]:
    """Gives cached memory back to the device where a request failed, so that the next one finds it."""
    try:
        yield
    except Exception:
        if device.type == "cuda":
            torch.cuda.empty_cache()
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparing:
    """Makes host inputs of what was asked for: reads the picture, resizes it, draws the noise."""

    config: BagelConfig
    weights: Path | None
    max_pixels: int

    def inputs(self, asked: Asked) -> RequestInputs:
        """Raises ``ApiError`` where the picture cannot be read or the model is too small for the request."""
        image = None if asked.content is None else read_picture(asked.content, self.max_pixels, asked.param)
        request: Request = asked.request
        try:
            return request_inputs(request, self.config, self.weights, request.seed, image=image)
        except UsageError as error:
            raise from_usage(error, None) from None
