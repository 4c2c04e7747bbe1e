"""Runs every variant of a plan on every request: counted, proved against itself, warmed up, timed."""

from __future__ import annotations

from pathlib import Path

from bagel_perf.harness.device_work import count_device_work
from bagel_perf.harness.measure import (
    WallClock,
    peak_bytes_by_stage,
    run_stages,
    shuffled_rounds,
    time_stages,
    time_whole,
)
from bagel_perf.harness.regions import NvtxSink, RecordFunctionSink, recording
from bagel_perf.schema.errors import OutputsDiffer, RunFailed
from bagel_perf.schema.events import EnvironmentEvent, FloorsEvent, WarningEvent
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.runs import MIN_SPREAD, Measurement, Picture
from bagel_perf.schema.slots import as_stage
from bagel_perf.workload.counting import count_stages
from bagel_perf.workload.floors import measure_floors
from bagel_perf.workload.loading import Loaded
from bagel_perf.workload.session import Case, Emit, Session, recorded_loop

DEFAULT_ROUNDS = {"cuda": 5, "cpu": 1}
DEFAULT_WARMUPS = {"cuda": 1, "cpu": 0}


def run_compare(plan: Plan, loaded: Loaded, emit: Emit) -> None:
    """Measures a plan; raises OutputsDiffer before anything is timed when a variant disproves itself."""
    kind = loaded.environment.device_kind
    num_rounds = DEFAULT_ROUNDS[kind] if plan.pairs is None else plan.pairs
    num_warmups = DEFAULT_WARMUPS[kind] if plan.warmup is None else plan.warmup
    emit(EnvironmentEvent(environment=loaded.environment, pairs=num_rounds, warmup=num_warmups))
    if loaded.environment.dirty:
        emit(WarningEvent(text="the tree has uncommitted changes, so its commit does not name what is measured"))
    session = Session(plan=plan, model=loaded.model, emit=emit, num_rounds=num_rounds, num_warmups=num_warmups)
    directory = Path(plan.weights) if plan.weights else None
    cases = [Case.of(session, request, directory) for request in plan.requests]
    proven = [(case.request, case.inputs, [prove(case, variant) for variant in plan.measured][-1]) for case in cases]
    if session.on_cuda:
        session.progress("measuring the GPU's ceilings")
        ceilings, floors = measure_floors(loaded.model, proven)
        emit(FloorsEvent(ceilings=ceilings, floors=floors))
    for number, case in enumerate(cases):
        time_variants(case, plan.order_seed + number)


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
        png, peaks = peak_bytes_by_stage(case.marked_subject(session.model, variant), session.model.device)
    repeated = case.record("repeat", variant, png, tuple(_peak(stage, peak) for stage, peak in peaks.items()))

    session.progress(f"{case.label} {variant}: another seed")
    other = case.record("other_seed", variant, run_stages(case.subject(variant, other_seed=True)))
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


def warm_up(case: Case, variant: str, what: str) -> None:
    """An untimed run, in which a variant that records its steps does so, so that no other pays for it."""
    case.session.progress(f"{case.label} {variant}: {what}")
    png, loop = run_stages(case.subject(variant)), recorded_loop(variant)
    case.record("warmup", variant, png, captures_ms=() if loop is None else loop.take_captures())


def refuse_recording(variant: str) -> None:
    """A run that recorded a graph has a latency that no later run has: it ends the comparison."""
    loop = recorded_loop(variant)
    if loop is not None and loop.take_captures():
        raise RunFailed(
            "a timed run recorded a graph",
            value=variant,
            remedy="compare fewer variants that record, one --res at a time",
        )


def _peak(stage: str, peak_bytes: int) -> Measurement:
    return Measurement(stage=as_stage(stage), peak_bytes=peak_bytes)


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


def time_variants(case: Case, order_seed: int) -> None:
    """Warms up, then times every variant once a round, in random order, by stages and as a whole."""
    session = case.session
    clock = WallClock(device=session.model.device)
    for variant in session.plan.measured:
        for _ in range(session.num_warmups_of(variant)):
            warm_up(case, variant, "warm-up")
    for index, variant in shuffled_rounds(session.plan.measured, session.num_rounds, order_seed):
        for timing, text in ((time_stages, "stages"), (time_whole, "end to end")):
            session.progress(f"{case.label} {variant}: round {index + 1} of {session.num_rounds}, {text}")
            outcome = timing(case.subject(variant), clock)
            refuse_recording(variant)
            latencies = tuple(
                Measurement(stage=as_stage(name), latency_ms=ms) for name, ms in outcome.latency_ms.items()
            )
            case.record("timed", variant, outcome.output, latencies, round=index)
