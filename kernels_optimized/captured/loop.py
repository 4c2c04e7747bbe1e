"""Component ``denoise_loop`` as recorded steps: one recording a shape and kind of step, kept for later requests.

Suffixes: N latent tokens, C latent channels (64).
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.bagel import Bagel
from bagel_perf.subjects.bagel.model.contracts import Components, Denoising, Step
from bagel_perf.subjects.bagel.model.denoise import DenoiseState
from bagel_perf.syncs.captures import Recorder, Recording
from kernels_optimized.sync_free.loop import first_picture

MAX_SHAPES = 4
"""Shapes whose recordings are kept; the one that was used longest ago goes first, with its memory."""


class RecordableStep(Protocol):
    """One denoise step in memory that stays where it is, so that it can be recorded.

    ``latents_NC`` (fp32) is stepped in place.
    """

    latents_NC: Tensor

    def load(self, state: DenoiseState) -> None:
        """Takes over what a request of this shape brings along; does not wait."""
        ...

    def prepare(self, state: DenoiseState, step: Step) -> None:
        """Takes over a step's time, of the request that was loaded last; does not wait, and is not recorded."""
        ...

    def run(self, *, guided: bool) -> None:
        """One step; recorded."""
        ...


MakeStep = Callable[[DenoiseState, Components], RecordableStep]

COMPONENTS_OF_A_STEP = ("step_input", "route_experts", "merge_kv", "attention_lengths")


@dataclass(slots=True)
class _Shape:
    """The step of one shape and its recordings by whether guidance applies; keeps the model, whose id is in the key."""

    step: RecordableStep
    model: Bagel
    recordings: dict[bool, Recording] = field(default_factory=dict)


class CapturedLoop:
    """A ``denoise_loop`` that records each kind of step when a shape first takes it, and replays it from then on.

    That first step runs before it is recorded: it counts, and whatever libraries set up lazily is there by then.
    ``recorded_components`` are those that the step calls; variants that differ in others alone share their recordings.
    Not thread-safe: recordings share buffers.
    """

    def __init__(self, make_step: MakeStep, recorded_components: Sequence[str] = COMPONENTS_OF_A_STEP) -> None:
        self._make_step = make_step
        self._recorded_components = tuple(recorded_components)
        self._shapes: OrderedDict[Hashable, _Shape] = OrderedDict()
        self._recorders: dict[torch.device, Recorder] = {}
        self._capture_ms: list[float] = []

    def __call__(self, state: Denoising, components: Components) -> Tensor:
        """Clean latents, fp32 [N, 64]; CaptureRefused where a component of the step waits."""
        assert isinstance(state, DenoiseState)
        shape = self._shape_of(state, components)
        shape.step.load(state)
        for step in state.steps(components):
            self._advance(shape, state, step)
        return first_picture(shape.step.latents_NC.clone(), state)

    def take_captures(self) -> tuple[float, ...]:
        """How long each graph took to record since this was last asked, in ms."""
        taken = tuple(self._capture_ms)
        self._capture_ms.clear()
        return taken

    def forget(self) -> None:
        """Gives up all recordings and their memory; the next request of a shape records anew."""
        self._shapes.clear()

    def _advance(self, shape: _Shape, state: DenoiseState, step: Step) -> None:
        shape.step.prepare(state, step)
        guided = step.in_window
        recording = shape.recordings.get(guided)
        if recording is not None:
            recording.replay()
            return
        shape.step.run(guided=guided)
        recording = self._recorder(shape.step.latents_NC.device).record(partial(shape.step.run, guided=guided))
        shape.recordings[guided] = recording
        if recording.is_graph:
            self._capture_ms.append(recording.capture_ms)

    def _shape_of(self, state: DenoiseState, components: Components) -> _Shape:
        key = _key(state, [getattr(components, name) for name in self._recorded_components])
        shape = self._shapes.get(key)
        if shape is None:
            while len(self._shapes) >= MAX_SHAPES:
                self._shapes.popitem(last=False)
            shape = self._shapes[key] = _Shape(self._make_step(state, components), state.model)
        self._shapes.move_to_end(key)
        return shape

    def _recorder(self, device: torch.device) -> Recorder:
        return self._recorders.setdefault(device, Recorder(device))


def _key(state: DenoiseState, functions: Sequence[Callable[..., object]]) -> Hashable:
    """Everything on the host that decides which kernels a step launches."""
    parts = [(branches.layout.past.host, branches.layout.queries.host) for branches in (state.guided, state.plain)]
    return id(state.model), tuple(parts), state.sampling, tuple(map(inspect.unwrap, functions))
