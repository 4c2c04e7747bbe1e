"""Tier 1 of the gate: each variant counted on the simulated device as a first and a later request, and run bare.

Requests are small, and so is what the image encoder sees of a picture: its own resolution would take all the time.
Latents are taken on their way and described with the picture: to the bit, and coarsely.

Suffixes: N latent tokens, C latent channels (64), P rows, K heads and E head size of keys and values.
"""

from __future__ import annotations

import dataclasses
import hashlib
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bagel_perf.measure.counting import count_by_line
from bagel_perf.measure.settings import (
    Watched,
    changes_text,
    hearing_setters,
    random_changes,
    random_states,
    settings_changed,
)
from bagel_perf.measure.stages import run_stages
from bagel_perf.records.bagel import COMPONENTS, Request
from bagel_perf.records.errors import BagelPerfError, CountersDrifted, RunFailed
from bagel_perf.records.events import EnvironmentEvent, Event, ProgressEvent, RunEvent
from bagel_perf.records.gates import NUM_PASSES
from bagel_perf.records.plans import Plan
from bagel_perf.records.runs import CountedRun, CountedStage, OtherSeedRun, Output, RepeatedRun, Run
from bagel_perf.rules import torch_lacks, torch_versions
from bagel_perf.simulated import SimulatedCuda
from bagel_perf.simulated.tensor import hidden, to_plain
from bagel_perf.subjects.bagel.edit import RequestInputs, describe_picture, edit_subject, read_pixels, request_inputs
from bagel_perf.subjects.bagel.loading import Loaded, bind, with_regions
from bagel_perf.subjects.bagel.model.bagel import Bagel
from bagel_perf.subjects.bagel.model.config import BagelConfig
from bagel_perf.subjects.bagel.model.contracts import Components, Denoising
from bagel_perf.subjects.bagel.model.denoise import DenoiseState
from bagel_perf.subjects.bagel.model.parameters import map_tensors
from bagel_perf.subjects.bagel.model.preprocess import vae_pixels
from bagel_perf.syncs.captures import CaptureRefused
from bagel_perf.syncs.frames import Folders, readable_path

NUM_PROJECTIONS = 16
BLOCK = 16
"""Pixels a side, one latent token."""


class Tapped:
    """Components whose denoise loop leaves behind fingerprints of its contexts and latents, and what is not finite."""

    def __init__(self, components: Components) -> None:
        self._loop = components.denoise_loop
        self.components = dataclasses.replace(components, denoise_loop=self._tapped)
        self.latents_sha256: str | None = None
        self.contexts_print: tuple[float, ...] = ()
        self.latents_print: tuple[float, ...] = ()
        self.num_not_finite = 0

    def _tapped(self, state: Denoising, components: Components) -> Tensor:
        assert isinstance(state, DenoiseState)
        with hidden():
            self.contexts_print = contexts_print([_values(cache.value_PKE) for cache in state.guided.caches])
        latents_NC = self._loop(state, components)
        with hidden():  # looking at it is not the subject's doing, so it is NumPy that does
            values_NC = np.ascontiguousarray(to_plain(latents_NC).numpy())
        self.latents_sha256 = hashlib.sha256(values_NC.tobytes()).hexdigest()
        self.num_not_finite = int(np.count_nonzero(~np.isfinite(values_NC)))
        self.latents_print = latents_print(values_NC)
        return latents_NC

    def described(self, picture: Output, png: bytes) -> Output:
        """The picture with what is known of its latents, and with all fingerprints."""
        return replace(
            picture,
            latents_sha256=self.latents_sha256,
            contexts_print=self.contexts_print,
            latents_print=self.latents_print,
            pixels_print=pixels_print(read_pixels(png)),
        )


def _values(tensor: Tensor) -> NDArray[np.float32]:
    """A tensor of bf16, which NumPy does not know, without calling torch to compute."""
    bits = to_plain(tensor).view(torch.int16).numpy().astype(np.uint16).astype(np.uint32) << 16
    return bits.view(np.float32)


def contexts_print(layers_PKE: Sequence[NDArray[np.float32]]) -> tuple[float, ...]:
    """Means of the contexts' values over all rows, by layer and channel: rounding averages out, a mistake does not."""
    means = [values.mean(axis=0, dtype=np.float64).reshape(-1) for values in layers_PKE]
    return tuple(round(float(value), 5) for value in np.concatenate(means))


def latents_print(values_NC: NDArray[np.float32]) -> tuple[float, ...]:
    """Projections on fixed random signs: the distance of two is, within a fifth, that of the latents themselves."""
    signs = np.random.RandomState(0).randint(0, 2, (NUM_PROJECTIONS, values_NC.size)) * 2 - 1  # a frozen stream
    projected = signs @ values_NC.reshape(-1).astype(np.float64) / np.sqrt(values_NC.size)
    return tuple(round(float(value), 4) for value in projected)


def pixels_print(pixels_HW3: NDArray[np.uint8]) -> tuple[float, ...]:
    """Means of blocks, in grey levels."""
    height, width, _ = pixels_HW3.shape
    blocks = pixels_HW3.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3)
    return tuple(round(float(value), 2) for value in blocks.mean(axis=(1, 3, 4)).reshape(-1))


NOT_FINITE = "latents that are not finite"
ENCODED_SIDE = 84
"""Pixels a side of what the image encoder sees: 36 patches, where its own 980 pixels are 4,900."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A request under a variant, by what a run of it brings along: as asked, another seed, or all of it other."""

    request: Request
    variant: str
    asked: RequestInputs
    reseeded: RequestInputs
    other: RequestInputs

    @property
    def label(self) -> str:
        return f"{self.request.task} {self.request.case} {self.variant}"

    @classmethod
    def of(cls, request: Request, variant: str, config: BagelConfig) -> _Case:
        asked, reseeded, other = (
            request_inputs(request, config, None, request.seed + number, _encoded) for number in range(3)
        )
        return cls(request=request, variant=variant, asked=asked, reseeded=reseeded, other=_with_other_words(other))


def _encoded(image: Image.Image, side: int) -> Tensor:
    """What the image encoder takes, small whatever its own side is."""
    return vae_pixels(image, ENCODED_SIDE, ENCODED_SIDE)


def _with_other_words(inputs: RequestInputs) -> RequestInputs:
    """Inputs of the same shape that share neither prompt nor picture with those that were asked for."""
    picture = inputs.picture
    if picture is not None:
        pixels = {"vae_pixels": picture.vae_pixels.flip(-1), "vit_pixels": picture.vit_pixels.flip(-1)}
        picture = dataclasses.replace(picture, **pixels)
    return dataclasses.replace(inputs, prompt_ids=inputs.prompt_ids[1:] + inputs.prompt_ids[:1], picture=picture)


def run_gate(
    plan: Plan,
    loaded: Loaded,
    emit: Callable[[Event], None],
    simulated: SimulatedCuda | None = None,
    watched: Watched | None = None,
) -> None:
    """Sends the runs of each variant: counted once a pass, then two on the bare CPU.

    Settings are held to what ``watched`` saw first. Raises EnvironmentUnfit at the end where a run changed some,
    CountersDrifted where recorded work waits, RunFailed with its line where a run ends in any other error.
    """
    notes = tuple(torch_versions.notes(torch_lacks.lacking("simulated")))
    emit(EnvironmentEvent(environment=loaded.environment, pairs=0, warmup=0, notes=notes))
    cases = [_Case.of(request, variant, loaded.model.config) for variant in plan.variants for request in plan.requests]
    gate = _Gate(emit=emit, total=(NUM_PASSES + 2) * len(cases), watched=watched or Watched())
    simulated = simulated or SimulatedCuda()
    with simulated:
        model = map_tensors(loaded.model, simulated.wrap)  # one for all runs, as recordings are of a model
        for number in range(NUM_PASSES):
            for case in cases:
                gate.run(case, partial(_counted, model, simulated, gate.watched, case, number))
    for case in cases:
        gate.run(case, partial(_plain, loaded.model, case, case.asked, RepeatedRun))
        gate.run(case, partial(_plain, loaded.model, case, case.reseeded, OtherSeedRun))
    gate.check()


class _Gate:
    """Runs under way: what was refused, and which settings the first of them that did so has changed."""

    def __init__(self, *, emit: Callable[[Event], None], total: int, watched: Watched) -> None:
        self.watched = watched
        self._emit = emit
        self._total = total
        self._done = 0
        self._random = random_states()
        self._changed = ""
        self._refused: dict[str, str] = {}

    def run(self, case: _Case, run: Callable[[], Run]) -> None:
        """Sends what a run gave; none of a case that was refused."""
        self._emit(ProgressEvent(text=case.label, done=self._done, total=self._total))
        self._done += 1
        if case.label in self._refused:
            return
        try:
            self._emit(RunEvent(run=run()))
        except CaptureRefused as problem:
            self._refused[case.label] = f"{case.variant}: {problem}"
        except (BagelPerfError, BrokenPipeError):
            raise
        except Exception as problem:
            raise _failed(case, problem) from problem
        self._look(run, case.label)

    def _look(self, run: Callable[[], Run], name: str) -> None:
        """A run that has changed something is made again, to hear which line it is."""
        if self._changed:
            return
        self.watched.compare()
        changes = {**self.watched.changes, **random_changes(self._random)}
        if not changes:
            return
        with hearing_setters(changes) as places, suppress(Exception):
            run()
        place = places[0] if places else self.watched.place
        self._changed = f"{changes_text(changes)}{f' at {place}' if place else ''} in {name}"

    def check(self) -> None:
        """Raises what is wrong besides counters and pictures."""
        if self._changed:
            raise settings_changed(self._changed)
        if self._refused:
            raise CountersDrifted(next(iter(self._refused.values())))


def _failed(case: _Case, problem: Exception) -> RunFailed:
    """Any other error, at the innermost line of the program."""
    folders, place, link = Folders(), "", problem.__traceback__
    while link is not None:
        if folders.user_frame(link.tb_frame) is link.tb_frame and not folders.is_installed(link.tb_frame.f_code):
            place = f"{readable_path(link.tb_frame.f_code.co_filename)}:{link.tb_lineno}"
        link = link.tb_next
    text = next(iter(str(problem).splitlines()), "")
    failure = RunFailed(f"{case.label} failed at {place}", value=f"{type(problem).__name__}: {text}"[:300])
    failure.add_note("".join(traceback.format_exception(problem)))
    return failure


def _counted(model: Bagel, simulated: SimulatedCuda, watched: Watched, case: _Case, number: int) -> Run:
    """The first pass and the second are of the same request, the third of another one."""
    inputs = case.other if number == NUM_PASSES - 1 else case.asked
    tapped = Tapped(with_regions(bind(case.variant)))
    counts = count_by_line(
        edit_subject(model, inputs, tapped.components), simulated, watched, describe_picture, COMPONENTS
    )
    if tapped.num_not_finite:
        measured = tuple(_with_not_finite(each, tapped) for each in counts.measurements)
        counts = dataclasses.replace(counts, measurements=measured)
    return CountedRun(
        seed=case.request.seed + (2 if inputs is case.other else 0),
        round=number,
        sync_device=counts.device,
        measurements=counts.measurements,
        sites=counts.sites,
        **_common(case, counts.value, tapped),
    )


def _with_not_finite(measurement: CountedStage, tapped: Tapped) -> CountedStage:
    """A counter that no variant has: it says why a picture is flat, or another."""
    if measurement.stage != "dit":
        return measurement
    return replace(measurement, counters={**(measurement.counters or {}), NOT_FINITE: tapped.num_not_finite})


def _plain(model: Bagel, case: _Case, inputs: RequestInputs, kind: type[RepeatedRun | OtherSeedRun]) -> Run:
    tapped = Tapped(bind(case.variant))
    output = run_stages(edit_subject(model, inputs, tapped.components))
    return kind(seed=case.request.seed + (kind is OtherSeedRun), **_common(case, output, tapped))


def _common(case: _Case, png: bytes, tapped: Tapped) -> dict[str, Any]:
    """What a run of any kind says of its case and picture."""
    output = tapped.described(describe_picture(png), png)
    return {"variant": case.variant, "case": case.request.case, "output": output}
