"""Runs every variant of a plan on every request: counted and proved against itself, then timed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bagel_perf.harness.device_work import count_device_work
from bagel_perf.harness.measure import memory_by_stage, run_stages
from bagel_perf.harness.regions import NvtxSink, RecordFunctionSink, recording
from bagel_perf.harness.settings import unchanged_settings
from bagel_perf.schema.blocks import ROUNDS_PER_PROCESS, blocks
from bagel_perf.schema.errors import OutputsDiffer
from bagel_perf.schema.events import EnvironmentEvent, FloorsEvent, WarningEvent
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.runs import MIN_SPREAD, Measurement, Picture
from bagel_perf.schema.slots import as_stage
from bagel_perf.workload.counting import count_stages
from bagel_perf.workload.floors import measure_floors
from bagel_perf.workload.loading import Loaded
from bagel_perf.workload.session import Case, Emit, Session, recorded_loop
from bagel_perf.workload.timing import time_all, warm_up

DEFAULT_PROCESSES = 6
"""A variant has luck of its own in each process, so nothing under six gives a verdict."""
DEFAULT_ROUNDS = {"cuda": ROUNDS_PER_PROCESS * DEFAULT_PROCESSES, "cpu": 1}
DEFAULT_WARMUPS = {"cuda": 1, "cpu": 0}
DIRTY = "the tree has uncommitted changes, so its commit does not name what is measured"


def run_compare(plan: Plan, loaded: Loaded, emit: Emit) -> None:
    """Runs one process's share of a plan; the first proves the variants before anything is timed.

    Raises OutputsDiffer when a variant disproves itself, EnvironmentUnfit where settings of torch were changed on the
    way.
    """
    kind = loaded.environment.device_kind
    num_rounds = DEFAULT_ROUNDS[kind] if plan.pairs is None else plan.pairs
    num_warmups = DEFAULT_WARMUPS[kind] if plan.warmup is None else plan.warmup
    num_processes = DEFAULT_PROCESSES if plan.processes is None else plan.processes
    shares = blocks(num_rounds, num_processes)
    rounds = range(*(shares[plan.process] if plan.rounds is None else plan.rounds))
    session = Session(plan=plan, model=loaded.model, emit=emit, rounds=rounds, num_warmups=num_warmups)
    directory = Path(plan.weights) if plan.weights else None
    cases = [Case.of(session, request, directory) for request in plan.requests]
    # Last: from here on all that takes time is runs, and until here it was the start-up of the process.
    emit(EnvironmentEvent(environment=loaded.environment, pairs=num_rounds, warmup=num_warmups, processes=len(shares)))
    with unchanged_settings():
        if plan.process == 0:
            if loaded.environment.dirty:
                emit(WarningEvent(text=DIRTY))
            for case in cases:
                case.send_input()
            prove_all(cases)
        time_all(cases)


def prove_all(cases: Sequence[Case]) -> None:
    """Proves every variant of every case, and measures the GPU's ceilings at their shapes."""
    session = cases[0].session
    proven = [
        (case.request, case.inputs, [prove(case, variant) for variant in session.plan.measured][-1]) for case in cases
    ]
    if session.on_cuda:
        session.progress("measuring the GPU's ceilings")
        ceilings, floors = measure_floors(session.model, proven)
        session.emit(FloorsEvent(ceilings=ceilings, floors=floors))


def prove(case: Case, variant: str) -> bytes:
    """Counts a variant's waits, and shows that its picture repeats, depends on the seed and is not flat; gives it."""
    session = case.session
    for name in session.plan.measured:  # what they have recorded would be in this variant's peak
        if (loop := recorded_loop(name)) is not None:
            loop.forget()
    if recorded_loop(variant) is not None:
        warm_up(case, variant, "recording")
    session.progress(f"{case.label} {variant}: counting host syncs")
    counts = count_stages(session.model, lambda model: case.marked_subject(model, variant))
    counted = case.record(
        "count", variant, counts.output, counts.measurements, sync_device=counts.device, sites=counts.sites
    )

    session.progress(f"{case.label} {variant}: same seed again")
    # Untimed: the pass that a profiler around this process should read.
    with recording(NvtxSink(), RecordFunctionSink()):
        png, memory = memory_by_stage(case.marked_subject(session.model, variant), session.model.device)
    repeated = case.record("repeat", variant, png, tuple(_memory(stage, *each) for stage, each in memory.items()))

    session.progress(f"{case.label} {variant}: another seed")
    seed = case.request.seed + 1
    other = case.record("other_seed", variant, run_stages(case.subject(variant, seed)), seed=seed)
    _check(case.label, variant, counted.picture, repeated.picture, other.picture)
    if session.on_cuda:
        profile_work(case, variant)
    return counts.output


def profile_work(case: Case, variant: str) -> None:
    """Counts the launches, kernels and copies of a variant, in a run of its own."""
    case.session.progress(f"{case.label} {variant}: counting launches")
    worked = count_device_work(case.marked_subject(case.session.model, variant), inner="denoise_loop")
    measurements = tuple(
        Measurement(stage=as_stage(stage), work=work, loop_work=worked.inner_by_stage.get(stage))
        for stage, work in worked.by_stage.items()
    )
    case.record("profile", variant, worked.output, measurements)


def _memory(stage: str, peak_bytes: int, allocations: int) -> Measurement:
    return Measurement(stage=as_stage(stage), peak_bytes=peak_bytes, allocations=allocations)


def _check(label: str, variant: str, counted: Picture, repeated: Picture, other: Picture) -> None:
    def refuse(what: str, remedy: str) -> None:
        raise OutputsDiffer(what, value=f"{variant} at {label}", remedy=remedy)

    if not repeated.spread >= MIN_SPREAD:
        refuse(
            f"the picture is flat (grey levels spread {repeated.spread:.2f})",
            "nothing was timed; look for NaN in the weights",
        )
    if counted.md5 != repeated.md5:
        refuse("a variant's picture differs from itself on a second run", "nothing was timed; look for unseeded noise")
    if other.md5 == repeated.md5:
        refuse("another seed gives the same picture", "nothing was timed; look for an output that is cached")
