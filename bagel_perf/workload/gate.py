"""Tier 1 of the gate: each variant counted on the simulated device, run again, and run with another seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from bagel_perf.harness.captures import CaptureRefused
from bagel_perf.harness.environment import numeric_settings
from bagel_perf.harness.measure import Subject, run_stages
from bagel_perf.harness.simulated.tensor import hidden, to_plain
from bagel_perf.model.bagel import Bagel
from bagel_perf.model.contracts import Denoising, Slots
from bagel_perf.schema.errors import CountersDrifted, EnvironmentUnfit
from bagel_perf.schema.events import EnvironmentEvent, Event, ProgressEvent, RunEvent
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.requests import Request
from bagel_perf.schema.runs import Purpose, Run
from bagel_perf.workload.bind import bind, with_regions
from bagel_perf.workload.counting import Counts, count_stages
from bagel_perf.workload.edit import RequestInputs, edit_subject, request_inputs
from bagel_perf.workload.loading import Loaded
from bagel_perf.workload.pictures import describe_picture

NUM_RUNS = 3
"""Of each variant under each request: counted, repeated, with another seed."""


class Tapped:
    """Slots whose denoise loop leaves a hash of its latents behind."""

    def __init__(self, slots: Slots) -> None:
        self._loop = slots.denoise_loop
        self.slots = replace(slots, denoise_loop=self._tapped)
        self.latents_sha256: str | None = None

    def _tapped(self, state: Denoising, slots: Slots) -> Tensor:
        latents_NC = self._loop(state, slots)
        with hidden():  # looking at it is not the subject's doing
            self.latents_sha256 = hashlib.sha256(to_plain(latents_NC).contiguous().numpy().tobytes()).hexdigest()
        return latents_NC


def run_gate(plan: Plan, loaded: Loaded, emit: Callable[[Event], None]) -> None:
    """Sends a run of each kind.

    Raises EnvironmentUnfit where settings of torch are others at the end, CountersDrifted where recorded work waits.
    """
    emit(EnvironmentEvent(environment=loaded.environment, pairs=0, warmup=0))
    before, done, refused = numeric_settings(), 0, dict[str, str]()
    for request in plan.requests:
        inputs, other = (request_inputs(request, loaded.model.config, None, request.seed + n) for n in range(2))
        for variant in plan.variants:
            for number, run in enumerate((_counted, _repeated, _other_seed)):
                text = f"{request.task} {request.width}x{request.height} {variant}"
                total = NUM_RUNS * len(plan.requests) * len(plan.variants)
                emit(ProgressEvent(text=text, done=done + number, total=total))
                try:
                    emit(RunEvent(run=run(loaded.model, request, variant, other if run is _other_seed else inputs)))
                except CaptureRefused as problem:
                    refused[variant] = str(problem)
                    break
            done += NUM_RUNS
    _check_settings(before)
    if refused:
        raise CountersDrifted(f"{', '.join(refused)}: {next(iter(refused.values()))}")


def _check_settings(before: dict[str, str]) -> None:
    after = numeric_settings()
    changed = [f"{name} from {value} to {after[name]}" for name, value in before.items() if after[name] != value]
    if changed:
        raise EnvironmentUnfit(
            "settings changed while variants were measured",
            value=", ".join(changed),
            remedy="runs before and after it are not alike; find what sets it, and set it before all",
        )


def _counted(model: Bagel, request: Request, variant: str, inputs: RequestInputs) -> Run:
    tapped = Tapped(with_regions(bind(variant)))
    counts = count_stages(model, lambda copy: edit_subject(copy, inputs, tapped.slots))
    return _run("count", request, variant, counts.output, tapped, counts)


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
