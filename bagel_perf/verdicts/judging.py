"""Verdicts over paired latencies: whether a change keeps to a limit, and what a change without one is.

A verdict is read off the interval of the median: it passes when the whole interval lies within the limit, and fails
when the whole interval lies beyond it and the joint test of all that is judged together (``joint``) says so too; what
is left is inconclusive, and never a pass. A pass needs no joint test, since a gate passes only where every latency
does.

The round is what pairs the variants; a pair whose conditions rule it out is excluded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bagel_perf.records.gates import Limit
from bagel_perf.records.outlines import WHOLE
from bagel_perf.records.runs import Run, TimedRun, runs_of
from bagel_perf.verdicts.comparability import exclusion_reason
from bagel_perf.verdicts.statistics import (
    CONFIDENCE,
    MIN_PROCESSES,
    ByProcess,
    PairedChange,
    median_interval,
    percent,
    process_medians,
)

State = Literal["pass", "fail", "inconclusive"]
ChangeState = Literal["improved", "regressed", "no difference shown", "inconclusive", "invalid"]

ROUNDING = 1e-12
"""Of a logarithm: 103 ms are 3% over 100 ms, and not beyond."""

REASONS: dict[State, str] = {
    "pass": "the whole interval is within the limit",
    "fail": "the whole interval is beyond the limit",
    "inconclusive": "the interval holds the limit",
}


Excess = ByProcess | tuple[ByProcess, ByProcess]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedSamples:
    """Latencies of one cell in ms; those at the same place were measured in the same round.

    ``processes`` has the number of the process of each round. ``num_excluded`` more rounds were left out for the
    conditions that they ran under.
    """

    reference_ms: tuple[float, ...]
    candidate_ms: tuple[float, ...]
    processes: tuple[int, ...]
    num_excluded: int = 0

    def __post_init__(self) -> None:
        assert len(self.reference_ms) == len(self.candidate_ms) == len(self.processes) > 0

    @property
    def num_pairs(self) -> int:
        return len(self.reference_ms)

    @property
    def log_ratios(self) -> dict[int, float]:
        """Median of ``ln(candidate / reference)`` of each process."""
        pairs = zip(self.reference_ms, self.candidate_ms, strict=True)
        return process_medians([math.log(b / a) for a, b in pairs], self.processes)

    @property
    def differences_ms(self) -> dict[int, float]:
        """Median of candidate less reference of each process."""
        pairs = zip(self.reference_ms, self.candidate_ms, strict=True)
        return process_medians([b - a for a, b in pairs], self.processes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Whether a cell keeps to its limit. ``estimate`` and ``interval`` are in the unit of the limit, percent or ms.

    The interval is for the cell by itself; it is None, and the state inconclusive, where the processes are too few for
    one. ``excess`` is by how much each process is beyond the limit; of arms that share no process, by how much the
    candidate's are beyond the reference's, each in its own.
    """

    limit: Limit
    state: State
    estimate: float
    interval: tuple[float, float] | None
    num_processes: int
    reason: str
    excess: Excess

    def __post_init__(self) -> None:
        assert self.interval is not None or self.state == "inconclusive"


def judge(samples: PairedSamples, limit: Limit, confidence: float = CONFIDENCE) -> Judgement:
    """Holds the change of one cell by itself to its limit, a percentage as ``ln(1 + L / 100)`` against log-ratios."""
    values = samples.differences_ms if limit.percent is None else samples.log_ratios
    median, interval = median_interval([*values.values()], confidence)
    bound = bound_of(limit)
    state = state_of(interval, bound)
    return Judgement(
        limit=limit,
        state=state,
        estimate=in_unit(limit, median),
        interval=None if interval is None else (in_unit(limit, interval[0]), in_unit(limit, interval[1])),
        num_processes=len(values),
        reason=REASONS[state] if interval is not None else f"{processes_text(len(values))}; {MIN_PROCESSES} are needed",
        excess={process: value - bound for process, value in values.items()},
    )


def joined(judgement: Judgement, *, is_shown: bool, num_judged: int) -> Judgement:
    """The judgement among so many others; where the joint test does not show a failure, it is none."""
    if judgement.state != "fail" or is_shown:
        return judgement
    reason = f"beyond the limit by itself, not among {num_judged} that are judged together"
    return replace(judgement, state="inconclusive", reason=reason)


def state_of(interval: tuple[float, float] | None, bound: float) -> State:
    """What an interval says of a limit, both in one unit; inconclusive where there is none."""
    if interval is None:
        return "inconclusive"
    low, high = interval
    if low > bound:
        return "fail"
    return "pass" if high <= bound else "inconclusive"


def bound_of(limit: Limit) -> float:
    """The limit as a logarithm of a ratio, or in ms."""
    return (limit.amount if limit.percent is None else math.log1p(limit.amount / 100)) + ROUNDING


def in_unit(limit: Limit, value: float) -> float:
    """In percent or in ms, as the limit is, from what ``bound_of`` gives a bound for."""
    return value if limit.percent is None else percent(value)


def processes_text(number: int) -> str:
    """The number with its noun."""
    return "1 process" if number == 1 else f"{number} processes"


def change_state(change: PairedChange, *, is_shown: bool, is_void: bool = False) -> ChangeState:
    """What a change without limit is; ``is_shown`` says that the joint test of the table shows it as well.

    ``is_void``: the reference differs from itself in the same schedule, or too many pairs were excluded, so that no
    interval is to be believed.
    """
    if is_void:
        return "invalid"
    if change.ci_pct is None:
        return "inconclusive"
    side = side_of(change.ci_pct)
    if not side or not is_shown:
        return "no difference shown"
    return "regressed" if side > 0 else "improved"


def side_of(interval: tuple[float, float]) -> int:
    """On which side of 0 an interval lies: -1, 1, or 0 where it holds 0."""
    low, high = interval
    return (low > 0) - (high < 0)


def noise_floor_pct(aa: PairedChange) -> float | None:
    """Half the width of the interval of a reference against itself, in percent: a smaller change is no effect yet.

    None where the processes are too few.
    """
    return None if aa.ci_pct is None else (aa.ci_pct[1] - aa.ci_pct[0]) / 2


def latency_by_round(own: Sequence[Run], stage: str, *, is_control: bool = False) -> dict[int, float]:
    """Milliseconds of a stage in each timed round, in the order of arrival; ``is_control``: of the control."""
    return {number: ms for number, ms, _ in timed(own, stage, is_control=is_control)}


def paired(
    reference: Sequence[Run],
    candidate: Sequence[Run],
    stage: str,
    median_clock: float | None,
    *,
    control: bool = False,
) -> PairedSamples | None:
    """The rounds of both that count, None where there is none.

    With ``control`` the candidate's runs are the first variant's second ones.
    ``median_clock`` is that of all timed runs, in MHz.
    """
    before = {number: (ms, run) for number, ms, run in timed(reference, stage)}
    after = {number: (ms, run) for number, ms, run in timed(candidate, stage, is_control=control)}
    shared = sorted(before.keys() & after.keys())
    kept = [
        number
        for number in shared
        if not any(exclusion_reason(run.conditions, median_clock) for run in (before[number][1], after[number][1]))
    ]
    if not kept:
        return None
    return PairedSamples(
        reference_ms=tuple(before[number][0] for number in kept),
        candidate_ms=tuple(after[number][0] for number in kept),
        processes=tuple(before[number][1].process for number in kept),
        num_excluded=len(shared) - len(kept),
    )


def timed(own: Sequence[Run], stage: str, *, is_control: bool = False) -> Iterator[tuple[int, float, TimedRun]]:
    """Round, milliseconds and run of each timed run that has the stage; ``is_control``: of the control."""
    for run in runs_of(TimedRun, own):
        measured = run.measurement(stage)
        if run.is_control == is_control and measured is not None:
            yield run.round, measured.latency_ms, run


def e2e_is_apart(runs: Iterable[Run]) -> bool:
    """Whether the whole was timed in other runs than its stages, so that its median is no sum of theirs."""
    stages = [{each.stage for each in run.measurements} for run in runs_of(TimedRun, runs)]
    is_whole = [each == {WHOLE} for each in stages if each]
    return any(is_whole) and not all(is_whole) and all(each == {WHOLE} or WHOLE not in each for each in stages)
