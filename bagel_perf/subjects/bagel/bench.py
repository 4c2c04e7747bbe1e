"""BAGEL as the subject of a comparison: requests are its cases, and mixtures of components its variants."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bagel_perf.measure.bench import Counts
from bagel_perf.measure.counting import count_on, count_simulated, refuse_unjudged
from bagel_perf.measure.outputs import Distance
from bagel_perf.measure.stages import Subject
from bagel_perf.records.bagel import COMPONENTS, Request
from bagel_perf.records.events import FloorsEvent
from bagel_perf.records.outlines import Outline, Tolerance
from bagel_perf.records.plans import Plan, bagel_outline
from bagel_perf.records.runs import Environment, Output
from bagel_perf.simulated import SimulatedCuda
from bagel_perf.subjects.bagel.edit import (
    RequestInputs,
    describe_picture,
    distance,
    edit_subject,
    request_inputs,
)
from bagel_perf.subjects.bagel.floors import measure_floors
from bagel_perf.subjects.bagel.loading import Loaded, bind, with_regions
from bagel_perf.subjects.bagel.model.bagel import Bagel
from bagel_perf.subjects.bagel.model.parameters import map_tensors
from bagel_perf.subjects.bagel.model.preprocess import picture_of
from bagel_perf.subjects.bagel.png import encode_png
from kernels_optimized.captured.loop import CapturedLoop

LOOP = "denoise_loop"


@dataclass(slots=True, kw_only=True)
class BagelBench:
    """A model, and the requests of a plan; host inputs are made once for each seed."""

    plan: Plan
    loaded: Loaded
    outline: Outline = field(init=False)
    _requests: dict[str, Request] = field(init=False)
    _inputs_of: Callable[[str, int], RequestInputs] = field(init=False)

    def __post_init__(self) -> None:
        """Raises UsageError where the checkpoint does not serve a request."""
        self.outline = bagel_outline(self.plan, self.loaded.details)
        self._requests = {request.case: request for request in self.plan.requests}
        self._inputs_of = functools.lru_cache(maxsize=2 * len(self._requests))(self._made_inputs)
        for request in self.plan.requests:
            self._inputs_of(request.case, request.seed)

    @property
    def device(self) -> torch.device:
        return self.loaded.model.device

    @property
    def notes(self) -> tuple[str, ...]:
        """Says nothing."""
        return ()

    @property
    def environment(self) -> Environment:
        return self.loaded.environment

    def _made_inputs(self, case: str, seed: int) -> RequestInputs:
        weights = Path(self.plan.weights) if self.plan.weights else None
        return request_inputs(self._requests[case], self.loaded.model.config, weights, seed)

    def inputs(self) -> Iterator[tuple[str, bytes]]:
        """Gives the picture to edit of each case that has one, as the autoencoder takes it."""
        for case, request in self._requests.items():
            picture = self._inputs_of(case, request.seed).picture
            if picture is not None:
                yield case, encode_png(picture_of(picture.vae_pixels).numpy())

    def subject(self, variant: str, case: str, seed: int, *, is_marked: bool = False) -> Subject:
        """Binds a request to a variant; marked, with a region around each component."""
        components = with_regions(bind(variant)) if is_marked else bind(variant)
        return edit_subject(self.loaded.model, self._inputs_of(case, seed), components)

    def count(self, variant: str, case: str) -> Counts:
        """Counts one run of the request's own seed, on a simulated device where there is no GPU."""
        inputs, components = self._inputs_of(case, self.outline.seed), with_regions(bind(variant))
        return count_stages(self.loaded.model, lambda model: edit_subject(model, inputs, components))

    def loop(self, case: str) -> tuple[str, int] | None:
        """Names the denoise loop, which makes one step less than its schedule has points."""
        return LOOP, self._requests[case].steps - 1

    def describe(self, value: Any) -> Output:
        """Describes a PNG."""
        return describe_picture(value)

    def copied(self, value: Any) -> Any:
        """Gives the bytes of a PNG, which nobody changes."""
        return value

    def encode(self, value: Any) -> tuple[bytes, str]:
        """Gives a PNG as it is."""
        return value, ".png"

    def decode(self, content: bytes, suffix: str) -> Any:
        """Gives a PNG as it is."""
        return content

    def distance(self, value: Any, reference: Any, tolerance: Tolerance) -> Distance:
        """Measures the mean squared difference of grey levels of two PNGs."""
        return Distance(raw=0.0, num_differing=0) if value == reference else distance(value, reference)

    def records(self, variant: str) -> bool:
        """Says whether the variant's loop records its steps as a CUDA graph."""
        return recorded_loop(variant) is not None

    def forget_recordings(self) -> None:
        """Drops the graphs of all variants."""
        for name in self.outline.measured:
            if (loop := recorded_loop(name)) is not None:
                loop.forget()

    def take_recordings_ms(self, variant: str) -> tuple[float, ...]:
        """Gives how long each graph took that was recorded since the last call."""
        loop = recorded_loop(variant)
        return () if loop is None else loop.take_captures()

    def floors(self, values: dict[str, Any]) -> FloorsEvent | None:
        """Measures the GPU's ceilings, and from them the floors of all requests."""
        proven = [
            (request, self._inputs_of(case, request.seed), values[case]) for case, request in self._requests.items()
        ]
        ceilings, floors = measure_floors(self.loaded.model, proven)
        return FloorsEvent(ceilings=ceilings, floors=floors)


def count_stages(model: Bagel, make_subject: Callable[[Bagel], Subject]) -> Counts:
    """Counts one run of the subject that ``make_subject`` makes of the model, whose components must be in regions.

    Raises RunFailed where the simulated device met an operation that it cannot judge.
    """
    if model.device.type == "cuda":
        return count_on(model.device, make_subject(model), describe_picture, COMPONENTS)
    with SimulatedCuda() as simulated:  # with torch.cuda, so that synchronizations, events and streams are there
        subject = make_subject(map_tensors(model, simulated.wrap))
        counts = count_simulated(subject, simulated, describe_picture, COMPONENTS)
    refuse_unjudged(simulated)
    return counts


def recorded_loop(variant: str) -> CapturedLoop | None:
    """The component of a variant that records its steps, if it does."""
    loop = bind(variant).denoise_loop
    return loop if isinstance(loop, CapturedLoop) else None
