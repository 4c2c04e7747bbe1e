"""Runs the variants of a plan on every case: counted and proved against themselves, then timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bagel_perf.measure.bench import Bench
from bagel_perf.measure.device_work import count_device_work
from bagel_perf.measure.session import Case, Emit, Session, Turns
from bagel_perf.measure.settings import unchanged_settings
from bagel_perf.measure.stages import memory_by_stage, run_stages
from bagel_perf.measure.timing import time_all, warm_up
from bagel_perf.records.errors import OutputsDiffer
from bagel_perf.records.events import EnvironmentEvent, InputEvent, WarningEvent
from bagel_perf.records.plans import ROUNDS_PER_PROCESS, Plan, blocks
from bagel_perf.records.results import CaseInput
from bagel_perf.records.runs import CountedRun, OtherSeedRun, Output, ProfiledRun, RepeatedRun, StageMemory, StageWork
from bagel_perf.syncs.regions import NvtxSink, RecordFunctionSink, recording

DEFAULT_PROCESSES = 6
"""A variant has luck of its own in each process, so nothing under six gives a verdict."""
DEFAULT_ROUNDS = {"cuda": ROUNDS_PER_PROCESS * DEFAULT_PROCESSES, "cpu": 1}
DEFAULT_WARMUPS = {"cuda": 1, "cpu": 0}
DIRTY = "the tree has uncommitted changes, so its commit does not name what is measured"
SEEDLESS = "another seed gives the same output, so an output that is kept from an earlier run would pass as computed"


def run_compare(plan: Plan, bench: Bench, turns: Turns, emit: Emit) -> None:
    """Runs one process's share of a plan; the first proves the variants before anything is timed.

    Raises OutputsDiffer when a variant disproves itself, EnvironmentUnfit where settings of torch were changed on the
    way.
    """
    environment = bench.environment
    kind = environment.device_kind
    num_rounds = DEFAULT_ROUNDS[kind] if plan.pairs is None else plan.pairs
    num_warmups = plan.warmup
    if num_warmups is None:
        num_warmups = DEFAULT_WARMUPS[kind] if bench.outline.is_bagel else 1
    num_processes = DEFAULT_PROCESSES if plan.processes is None else plan.processes
    shares = blocks(num_rounds, num_processes)
    rounds = range(*(shares[plan.process] if plan.rounds is None else plan.rounds))
    # Last: from here on all that takes time is runs, and until here it was the start-up of the process.
    emit(
        EnvironmentEvent(
            environment=environment,
            outline=bench.outline,
            pairs=num_rounds,
            warmup=num_warmups,
            processes=len(shares),
        )
    )
    bench.outline = turns.agree(bench.outline)
    session = Session(plan=plan, bench=bench, emit=emit, rounds=rounds, num_warmups=num_warmups, turns=turns)
    cases = [Case(session=session, name=name) for name in bench.outline.cases]
    with unchanged_settings():
        if plan.process == 0:
            if environment.dirty:
                emit(WarningEvent(text=DIRTY))
            for note in bench.notes:
                emit(WarningEvent(text=note))
            for case, png in bench.inputs():
                output = session.keep(png, bench.describe(png), case, "input")
                emit(InputEvent(input=CaseInput(case=case, output=output)))
            prove_all(cases)
        time_all(cases)


def prove_all(cases: Sequence[Case]) -> None:
    """Proves every variant of every case, and measures the device's ceilings at their shapes."""
    session = cases[0].session
    values: dict[str, Any] = {}
    for case in cases:
        for variant in session.outline.measured:
            if session.turns.take(variant):
                values[case.name] = prove(case, variant)
    if session.on_cuda and session.outline.is_bagel:
        session.progress("measuring the GPU's ceilings")
        floors = session.bench.floors(values)
        if floors is not None:
            session.emit(floors)


def prove(case: Case, variant: str) -> Any:
    """Counts a variant's waits, and shows that its output repeats and shows something; gives it."""
    session, bench, label = case.session, case.session.bench, f"{case.name} {variant}"
    seed = session.outline.seed
    bench.forget_recordings()  # what others have recorded would be in this variant's peak
    if bench.records(variant):
        warm_up(case, variant, "recording")
    session.progress(f"{label}: counting host syncs")
    counts = bench.count(variant, case.name)
    counted = case.record(
        CountedRun,
        variant,
        counts.value,
        measurements=counts.measurements,
        output=counts.output,
        sync_device=counts.device,
        sites=counts.sites,
    )
    for note in counts.notes:
        session.emit(WarningEvent(text=f"{label}: {note}"))
    session.progress(f"{label}: same seed again")
    # Untimed: the pass that a profiler around this process should read.
    with recording(NvtxSink(), RecordFunctionSink()):
        marked = bench.subject(variant, case.name, seed, is_marked=True)
        value, by_stage = memory_by_stage(marked, bench.device)
    memory = tuple(
        StageMemory(stage=stage, peak_bytes=peak_bytes, allocations=number)
        for stage, (peak_bytes, number) in by_stage.items()
    )
    repeated = case.record(RepeatedRun, variant, value, measurements=memory)
    session.progress(f"{label}: another seed")
    third = run_stages(bench.subject(variant, case.name, seed + 1))
    other = case.record(OtherSeedRun, variant, third, seed=seed + 1)
    _check(case, variant, counted.output, repeated.output, other.output)
    if session.on_cuda:
        profile_work(case, variant)
    return value


def profile_work(case: Case, variant: str) -> None:
    """Counts the launches, kernels and copies of a variant, in a run of its own."""
    session, bench = case.session, case.session.bench
    session.progress(f"{case.name} {variant}: counting launches")
    name, num_steps = bench.loop(case.name) or ("", None)
    marked = bench.subject(variant, case.name, session.outline.seed, is_marked=True)
    worked = count_device_work(marked, inner=name)
    measurements = tuple(
        StageWork(stage=stage, work=work, loop_work=loop, loop_steps=None if loop is None else num_steps)
        for stage, work in worked.by_stage.items()
        for loop in (worked.inner_by_stage.get(stage),)
    )
    case.record(ProfiledRun, variant, worked.output, measurements=measurements)


def _check(case: Case, variant: str, counted: Output, repeated: Output, other: Output) -> None:
    outline = case.session.outline

    def refuse(what: str, remedy: str, more: str = "") -> None:
        value = f"{outline.place_of(variant)} at {case.name}{more}"
        raise OutputsDiffer(what, value=value, remedy=f"nothing was timed; {remedy}")

    if fault := repeated.fault or other.fault:
        remedy = "look at weights and inputs" if outline.is_bagel else "choose another input, seed or --case"
        refuse("output proves nothing", remedy, f" gives {fault}")
    if counted.identity != repeated.identity:
        refuse(f"a variant's {outline.noun} differs from itself on a second run", "look for unseeded noise")
    if other.sha256 == repeated.sha256:
        if outline.is_bagel:
            refuse(f"another seed gives the same {outline.noun}", "look for an output that is cached")
        case.session.emit(WarningEvent(text=f"{variant} at {case.name}: {SEEDLESS}"))
