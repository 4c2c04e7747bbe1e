"""Whether the timed rounds of a comparison are enough for what it is to resolve, and how many are to come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from bagel_perf.analysis import pictures
from bagel_perf.analysis.dropping import median_clock
from bagel_perf.analysis.planning import expected_half_width_pct, is_precise, looks, plan_text
from bagel_perf.analysis.rounds import paired
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.runs import Run
from bagel_perf.schema.slots import STAGES


def is_resolved(plan: Plan, runs: Sequence[Run], half_width_pct: float) -> bool:
    """Whether every change against the first variant is known within so many percent to either side."""
    return all(is_precise(each, half_width_pct) for each in _changes(plan, runs))


def outlook(plan: Plan, runs: Sequence[Run], half_width_pct: float) -> str:
    """How many pairs and minutes the change that varies most is expected to take."""
    widest = max(_changes(plan, runs), key=lambda each: expected_half_width_pct(each, looks()[-1]) if each else 0.0)
    return plan_text(widest, half_width_pct, seconds_per_pair=_seconds_per_round(runs))


def _changes(plan: Plan, runs: Sequence[Run]) -> list[list[float]]:
    """Log-ratios of each candidate, size and stage."""
    clock_mhz = median_clock(run.conditions for run in runs)
    found = []
    for request in plan.requests:
        arms = [pictures.at(runs, (request.width, request.height), variant) for variant in plan.measured]
        for candidate in arms[1:]:
            for stage in STAGES:
                both = paired(arms[0], candidate, stage, clock_mhz)
                found.append([] if both is None else both.log_ratios)
    return found


def _seconds_per_round(runs: Sequence[Run]) -> float:
    by_round: defaultdict[int, float] = defaultdict(float)
    for run in runs:
        if run.round is not None:
            by_round[run.round] += sum(each.latency_ms or 0.0 for each in run.measurements) / 1e3
    return sum(by_round.values()) / len(by_round)
