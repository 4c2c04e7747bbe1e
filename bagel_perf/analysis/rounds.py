"""Latencies by round, which is what pairs the variants, less the rounds whose conditions rule them out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bagel_perf.analysis.dropping import drop_reason
from bagel_perf.analysis.judging import PairedSamples
from bagel_perf.schema.outlines import WHOLE
from bagel_perf.schema.runs import Run, TimedRun, runs_of


def latency_by_round(own: Sequence[Run], stage: str, *, again: bool = False) -> dict[int, float]:
    """Milliseconds of a stage in each timed round, in the order of arrival; ``again``: of the control."""
    return {number: ms for number, ms, _ in timed(own, stage, again=again)}


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
    after = {number: (ms, run) for number, ms, run in timed(candidate, stage, again=control)}
    shared = sorted(before.keys() & after.keys())
    kept = [
        number
        for number in shared
        if not any(drop_reason(run.conditions, median_clock) for run in (before[number][1], after[number][1]))
    ]
    if not kept:
        return None
    return PairedSamples(
        reference_ms=tuple(before[number][0] for number in kept),
        candidate_ms=tuple(after[number][0] for number in kept),
        processes=tuple(before[number][1].process for number in kept),
        num_dropped=len(shared) - len(kept),
    )


def timed(own: Sequence[Run], stage: str, *, again: bool = False) -> Iterator[tuple[int, float, TimedRun]]:
    """Round, milliseconds and run of each timed run that has the stage; ``again``: of the control."""
    for run in runs_of(TimedRun, own):
        measured = run.measurement(stage)
        if run.again == again and measured is not None:
            yield run.round, measured.latency_ms, run


def e2e_is_apart(runs: Iterable[Run]) -> bool:
    """Whether the whole was timed in other runs than its stages, so that its median is no sum of theirs."""
    stages = [{each.stage for each in run.measurements} for run in runs_of(TimedRun, runs)]
    is_whole = [each == {WHOLE} for each in stages if each]
    return any(is_whole) and not all(is_whole) and all(each == {WHOLE} or WHOLE not in each for each in stages)
