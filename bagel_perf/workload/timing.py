"""Times every variant once a round, the first twice, by stages and as a whole, each with a seed of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bagel_perf.harness.measure import Outcome, WallClock, run_stages, shuffled_rounds, time_stages, time_whole
from bagel_perf.harness.telemetry import Telemetry
from bagel_perf.schema.errors import RunFailed
from bagel_perf.schema.events import WarningEvent
from bagel_perf.schema.runs import Measurement
from bagel_perf.schema.slots import as_stage
from bagel_perf.workload.session import Case, recorded_loop

NUM_PROOF_SEEDS = 2
TEXTS = {time_stages: "stages", time_whole: "end to end"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A variant in a round; ``again`` is the first variant once more, which is the control."""

    variant: str
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """What one timed run of an arm gave, and its seed."""

    arm: Arm
    seed: int
    outcome: Outcome


def time_all(cases: Sequence[Case]) -> None:
    """Times each case in turn."""
    session = cases[0].session
    with Telemetry(session.model.device) as telemetry:
        for number, case in enumerate(cases):
            time_variants(case, telemetry, session.plan.order_seed + number)
    if telemetry.warning is not None:
        session.emit(WarningEvent(text=telemetry.warning))


def time_variants(case: Case, telemetry: Telemetry, order_seed: int) -> None:
    """Warms up, then times every arm once a round, in random order, all with the seeds of the round."""
    session, plan = case.session, case.session.plan
    for variant in plan.measured:
        for _ in range(session.num_warmups_of(variant)):
            warm_up(case, variant, "warm-up")
    arms = (*(Arm(variant=variant) for variant in plan.measured), Arm(variant=plan.variants[0], again=True))
    found: list[Timed] = []
    for number, arm in shuffled_rounds(arms, session.rounds.stop, order_seed):
        if number in session.rounds:
            found += _time_arm(case, arm, number, telemetry)
            if len(found) == 2 * len(arms):
                _record(case, found, number)
                found = []


def warm_up(case: Case, variant: str, what: str) -> None:
    """An untimed run, in which a variant that records its steps does so, so that no other pays for it."""
    case.session.progress(f"{case.label} {variant}: {what}")
    png, loop = run_stages(case.subject(variant)), recorded_loop(variant)
    case.record("warmup", variant, png, captures_ms=() if loop is None else loop.take_captures())


def _time_arm(case: Case, arm: Arm, number: int, telemetry: Telemetry) -> list[Timed]:
    session = case.session
    clock = WallClock(device=session.model.device)
    found = []
    for timing, seed in zip((time_stages, time_whole), seeds_of(case.request.seed, number), strict=True):
        session.progress(f"{case.label} {arm.variant}: round {number + 1}, {TEXTS[timing]}")
        outcome = timing(case.subject(arm.variant, seed), clock, telemetry)
        found.append(Timed(arm=arm, seed=seed, outcome=outcome))
        _refuse_recording(arm.variant)
    return found


def seeds_of(first: int, number: int) -> tuple[int, int]:
    """Of the stages and of the whole in a round: none that a proof, a warm-up or another timed run has.

    So no run is served what another has made. ``first`` is the request's own; the proof takes that and the next.
    """
    own = first + NUM_PROOF_SEEDS + 2 * number
    return own, own + 1


def _record(case: Case, found: Sequence[Timed], number: int) -> None:
    """Sends off a round, the first variant's runs before the others, which may be held to their pictures."""
    first = case.session.plan.variants[0]
    for timed in sorted(found, key=lambda each: each.arm.variant != first):
        latencies = tuple(
            Measurement(stage=as_stage(name), latency_ms=ms) for name, ms in timed.outcome.latency_ms.items()
        )
        case.record(
            "timed",
            timed.arm.variant,
            timed.outcome.output,
            latencies,
            seed=timed.seed,
            round=number,
            again=timed.arm.again,
            conditions=timed.outcome.reading,
        )


def _refuse_recording(variant: str) -> None:
    """A run that recorded a graph has a latency that no later run has: it ends the comparison."""
    loop = recorded_loop(variant)
    if loop is not None and loop.take_captures():
        raise RunFailed(
            "a timed run recorded a graph",
            value=variant,
            remedy="compare fewer variants that record, one --res at a time",
        )
