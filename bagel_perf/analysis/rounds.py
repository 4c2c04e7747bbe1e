"""Latencies by round, which is what pairs the variants."""

from __future__ import annotations

from collections.abc import Sequence

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
