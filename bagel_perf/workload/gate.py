"""Tier 1 of the gate: each variant counted on the simulated device, run again, and run with another seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from torch import Tensor

from bagel_perf.harness import torch_lacks, torch_versions
from bagel_perf.harness.captures import CaptureRefused
from bagel_perf.harness.environment import numeric_settings
from bagel_perf.harness.measure import Subject, run_stages
from bagel_perf.harness.setters import hearing_setters
from bagel_perf.harness.settings import changes_since, changes_text, settings_changed
from bagel_perf.harness.simulated.tensor import hidden, to_plain
from bagel_perf.model.bagel import Bagel
from bagel_perf.model.contracts import Denoising, Slots
from bagel_perf.schema.errors import CountersDrifted
from bagel_perf.schema.events import EnvironmentEvent, Event, ProgressEvent, RunEvent
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.requests import Request
from bagel_perf.schema.runs import Measurement, Purpose, Run
from bagel_perf.workload.bind import bind, with_regions
from bagel_perf.workload.counting import Counts, count_stages
from bagel_perf.workload.edit import RequestInputs, edit_subject, request_inputs
from bagel_perf.workload.loading import Loaded
from bagel_perf.workload.pictures import describe_picture

NUM_RUNS = 3
"""Of each variant under each request: counted, repeated, with another seed."""
NOT_FINITE = "latents that are not finite"


class Tapped:
    """Slots whose denoise loop leaves behind a hash of its latents, and how many of their numbers are not finite."""

    def __init__(self, slots: Slots) -> None:
        self._loop = slots.denoise_loop
        self.slots = replace(slots, denoise_loop=self._tapped)
        self.latents_sha256: str | None = None
        self.num_not_finite = 0

    def _tapped(self, state: Denoising, slots: Slots) -> Tensor:
        latents_NC = self._loop(state, slots)
        with hidden():  # looking at it is not the subject's doing
            plain_NC = to_plain(latents_NC).contiguous()
            self.latents_sha256 = hashlib.sha256(plain_NC.numpy().tobytes()).hexdigest()
            self.num_not_finite = plain_NC.numel() - int(plain_NC.isfinite().sum())
        return latents_NC


def run_gate(plan: Plan, loaded: Loaded, emit: Callable[[Event], None]) -> None:
    """Sends a run of each kind.

    Raises EnvironmentUnfit at the end where a run changed settings of torch, CountersDrifted where recorded work waits.
    """
    notes = tuple(torch_versions.notes(torch_lacks.lacking("simulated")))
    emit(EnvironmentEvent(environment=loaded.environment, pairs=0, warmup=0, notes=notes))
    settings, done, refused = _Settings(), 0, dict[str, str]()
    for request in plan.requests:
        inputs, other = (request_inputs(request, loaded.model.config, None, request.seed + n) for n in range(2))
        for variant in plan.variants:
            for number, make in enumerate((_counted, _repeated, _other_seed)):
                text = f"{request.task} {request.width}x{request.height} {variant}"
                total = NUM_RUNS * len(plan.requests) * len(plan.variants)
                emit(ProgressEvent(text=text, done=done + number, total=total))
                run = partial(make, loaded.model, request, variant, other if make is _other_seed else inputs)
                refusal = _sent(run, emit)
                settings.look(run, text)
                if refusal:
                    refused[variant] = refusal
                    break
            done += NUM_RUNS
    settings.check()
    if refused:
        raise CountersDrifted(f"{', '.join(refused)}: {next(iter(refused.values()))}")


def _sent(run: Callable[[], Run], emit: Callable[[Event], None]) -> str:
    """Why a run could not be made, empty where it was."""
    try:
        emit(RunEvent(run=run()))
    except CaptureRefused as problem:
        return str(problem)
    return ""


class _Settings:
    """Settings of torch as they are now, and the first run that changes them."""

    def __init__(self) -> None:
        self._before = numeric_settings()
        self._changed = ""

    def look(self, run: Callable[[], Run], name: str) -> None:
        """After a run; one that has changed something is made again, to hear which line it is."""
        changes = changes_since(self._before)
        if not changes or self._changed:
            return
        with hearing_setters(changes) as places, suppress(CaptureRefused):
            run()
        self._changed = f"{changes_text(changes)}{f' at {places[0]}' if places else ''} in {name}"

    def check(self) -> None:
        if self._changed:
            raise settings_changed(self._changed)


def _counted(model: Bagel, request: Request, variant: str, inputs: RequestInputs) -> Run:
    tapped = Tapped(with_regions(bind(variant)))
    counts = count_stages(model, lambda copy: edit_subject(copy, inputs, tapped.slots))
    if tapped.num_not_finite:
        counts = replace(counts, measurements=tuple(_with_not_finite(each, tapped) for each in counts.measurements))
    return _run("count", request, variant, counts.output, tapped, counts)


def _with_not_finite(measurement: Measurement, tapped: Tapped) -> Measurement:
    """A counter that no variant has: it says why a picture is flat, or another."""
    if measurement.stage != "dit":
        return measurement
    return replace(measurement, counters={**(measurement.counters or {}), NOT_FINITE: tapped.num_not_finite})


def _repeated(model: Bagel, request: Request, variant: str, inputs: RequestInputs) -> Run:
    return _plain(model, request, variant, inputs, "repeat")


def _other_seed(model: Bagel, request: Request, variant: str, inputs: RequestInputs) -> Run:
    return _plain(model, request, variant, inputs, "other_seed")


def _plain(model: Bagel, request: Request, variant: str, inputs: RequestInputs, purpose: Purpose) -> Run:
    tapped = Tapped(bind(variant))
    subject: Subject = edit_subject(model, inputs, tapped.slots)
    return _run(purpose, request, variant, run_stages(subject), tapped)


def _run(
    purpose: Purpose, request: Request, variant: str, png: bytes, tapped: Tapped, counts: Counts | None = None
) -> Run:
    return Run(
        purpose=purpose,
        variant=variant,
        width=request.width,
        height=request.height,
        seed=request.seed + (purpose == "other_seed"),
        sync_device=counts.device if counts else None,
        measurements=counts.measurements if counts else (),
        sites=counts.sites if counts else (),
        picture=replace(describe_picture(png), latents_sha256=tapped.latents_sha256),
    )
