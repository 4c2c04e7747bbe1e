"""Times every variant once a round, the first twice, by stages and as a whole, each with a seed of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bagel_perf.measure.session import Case
from bagel_perf.measure.stages import Outcome, WallClock, run_stages, shuffled_rounds, time_stages, time_whole
from bagel_perf.measure.telemetry import Telemetry
from bagel_perf.records.errors import RunFailed
from bagel_perf.records.events import WarningEvent
from bagel_perf.records.runs import Output, TimedRun, TimedStage, WarmupRun

NUM_PROOF_SEEDS = 2
TEXTS = {time_stages: "stages", time_whole: "end to end"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A variant in a round; ``is_control`` is the first variant once more, which is the control."""

    variant: str
    is_control: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """What one timed run of an arm gave, and its seed.

    The output was described before the next run began, which may write into what this one returned; ``value`` is a copy
    of it where it is to be held to another.
    """

    arm: Arm
    seed: int
    outcome: Outcome
    output: Output
    value: Any


def time_all(cases: Sequence[Case]) -> None:
    """Times each case in turn."""
    session = cases[0].session
    with Telemetry(session.bench.device) as telemetry:
        for number, case in enumerate(cases):
            time_variants(case, telemetry, session.plan.order_seed + number)
    if telemetry.warning is not None:
        session.emit(WarningEvent(text=telemetry.warning))


def time_variants(case: Case, telemetry: Telemetry, order_seed: int) -> None:
    """Warms up, then times every arm once a round, in random order, all with the seeds of the round."""
    session = case.session
    measured = session.outline.measured
    for variant in measured:
        for _ in range(session.num_warmups_of(variant)):
            if session.turns.take(variant):
                warm_up(case, variant, "warm-up")
    arms = (*(Arm(variant=variant) for variant in measured), Arm(variant=measured[0], is_control=True))
    found: list[Timed] = []
    num_timed = 0
    for number, arm in shuffled_rounds(arms, session.rounds.stop, order_seed):
        if number in session.rounds:
            if session.turns.take(arm.variant):
                found += _time_arm(case, arm, number, telemetry)
            num_timed += 1
            if num_timed % len(arms) == 0:
                _record(case, found, number)
                found = []


def warm_up(case: Case, variant: str, what: str) -> None:
    """An untimed run, in which a variant that records its steps does so, so that no other pays for it."""
    case.session.progress(f"{case.name} {variant}: {what}")
    bench = case.session.bench
    value = run_stages(bench.subject(variant, case.name, case.session.outline.seed))
    case.record(WarmupRun, variant, value, captures_ms=bench.take_recordings_ms(variant))


def _time_arm(case: Case, arm: Arm, number: int, telemetry: Telemetry) -> list[Timed]:
    session = case.session
    clock = WallClock(device=session.bench.device)
    found = []
    for timing, seed in zip((time_stages, time_whole), seeds_of(session.outline.seed, number), strict=True):
        if timing is time_stages and len(session.outline.stages) < 2:
            continue  # a single stage is the whole
        session.progress(f"{case.name} {arm.variant}: round {number + 1}, {TEXTS[timing]}")
        outcome = timing(session.bench.subject(arm.variant, case.name, seed), clock, telemetry)
        found.append(_taken(case, arm, seed, outcome))
        _refuse_recording(case, arm.variant)
    return found


def _taken(case: Case, arm: Arm, seed: int, outcome: Outcome) -> Timed:
    session = case.session
    is_held = session.outline.is_bagel or session.has_tolerance
    output = session.described(outcome.output, arm.variant, case.name)
    value = session.bench.copied(outcome.output) if is_held else None
    return Timed(arm=arm, seed=seed, outcome=replace(outcome, output=None), output=output, value=value)


def seeds_of(first: int, number: int) -> tuple[int, int]:
    """Of the stages and of the whole in a round: none that a proof, a warm-up or another timed run has.

    So no round is served what another has made; arms of one round share them, and a cache across functions is not seen.
    ``first`` is the request's own; the proof takes that and the next.
    """
    own = first + NUM_PROOF_SEEDS + 2 * number
    return own, own + 1


def _record(case: Case, found: Sequence[Timed], number: int) -> None:
    """Sends off a round, the first variant's runs before the others, which may be held to its outputs."""
    session = case.session
    for variant in session.outline.measured:
        if session.turns.take(variant):
            for timed in (each for each in found if each.arm.variant == variant):
                _record_one(case, timed, number)


def _record_one(case: Case, timed: Timed, number: int) -> None:
    latencies = tuple(TimedStage(stage=name, latency_ms=ms) for name, ms in timed.outcome.latency_ms.items())
    case.record(
        TimedRun,
        timed.arm.variant,
        timed.value,
        measurements=latencies,
        output=timed.output,
        seed=timed.seed,
        round=number,
        is_control=timed.arm.is_control,
        conditions=timed.outcome.reading,
    )


def _refuse_recording(case: Case, variant: str) -> None:
    """A run that recorded a graph has a latency that no later run has: it ends the comparison."""
    if case.session.bench.take_recordings_ms(variant):
        raise RunFailed(
            "a timed run recorded a graph",
            value=variant,
            remedy="compare fewer variants that record, one --res at a time",
        )
