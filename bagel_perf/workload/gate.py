"""Tier 1 of the gate: each variant counted on the simulated device as a first and a later request, and run bare.

Requests are small, and so is what the image encoder sees of a picture: its own resolution would take all the time.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from msgspec.structs import replace
from PIL import Image
from torch import Tensor

from bagel_perf.harness import torch_lacks, torch_versions
from bagel_perf.harness.captures import CaptureRefused
from bagel_perf.harness.measure import run_stages
from bagel_perf.harness.setters import hearing_setters
from bagel_perf.harness.settings import Watched, changes_text, random_changes, random_states, settings_changed
from bagel_perf.harness.simulated import SimulatedCuda
from bagel_perf.harness.syncs.frames import Folders, readable_path
from bagel_perf.model.bagel import Bagel
from bagel_perf.model.config import BagelConfig
from bagel_perf.model.parameters import map_tensors
from bagel_perf.model.preprocess import vae_pixels
from bagel_perf.schema.errors import BagelPerfError, CountersDrifted, RunFailed
from bagel_perf.schema.events import EnvironmentEvent, Event, ProgressEvent, RunEvent
from bagel_perf.schema.gates import NUM_PASSES
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.requests import Request
from bagel_perf.schema.runs import CountedRun, CountedStage, OtherSeedRun, RepeatedRun, Run
from bagel_perf.schema.slots import SLOTS
from bagel_perf.workload.bind import bind, with_regions
from bagel_perf.workload.counting import count_by_line
from bagel_perf.workload.edit import RequestInputs, edit_subject, request_inputs
from bagel_perf.workload.loading import Loaded
from bagel_perf.workload.pictures import describe_picture
from bagel_perf.workload.tapping import Tapped

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
    counts = count_by_line(edit_subject(model, inputs, tapped.slots), simulated, watched, describe_picture, SLOTS)
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
    output = run_stages(edit_subject(model, inputs, tapped.slots))
    return kind(seed=case.request.seed + (kind is OtherSeedRun), **_common(case, output, tapped))


def _common(case: _Case, png: bytes, tapped: Tapped) -> dict[str, Any]:
    """What a run of any kind says of its case and picture."""
    output = tapped.described(describe_picture(png), png)
    return {"variant": case.variant, "case": case.request.case, "output": output}
