"""Latencies by round, which is what pairs the variants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bagel_perf.schema.runs import Run
from bagel_perf.schema.slots import Stage


def latency_by_round(own: Sequence[Run], stage: Stage) -> dict[int, float]:
    """Milliseconds of a stage in each timed round, in the order of arrival."""
    latency_by_round = {}
    for run in own:
        measured = run.measurement(stage)
        if (
            run.purpose == "timed"
            and run.round is not None
            and measured is not None
            and measured.latency_ms is not None
        ):
            latency_by_round[run.round] = measured.latency_ms
    return latency_by_round


def e2e_is_apart(runs: Iterable[Run]) -> bool:
    """Whether the whole was timed in other runs than its stages, so that its median is no sum of theirs."""
    stages = [{each.stage for each in run.measurements} for run in runs if run.purpose == "timed"]
    return any("e2e" in each for each in stages) and all(each == {"e2e"} or "e2e" not in each for each in stages)
