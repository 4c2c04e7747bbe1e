"""The stage-sum check: whether the whole takes what its stages take, which were timed in runs of their own.

Both timings of a round have seeds of their own, so nothing that one run leaves behind serves the next. Where whole and
stages still disagree, some work was in the one and not in the other, and neither is an account of the variant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bagel_perf.analysis import joint, pictures
from bagel_perf.analysis.dropping import drop_reason
from bagel_perf.analysis.rounds import timed
from bagel_perf.analysis.stats import ByProcess, allowed_error, paired_change, process_medians
from bagel_perf.schema.outlines import WHOLE
from bagel_perf.schema.results import StageSum, SumState
from bagel_perf.schema.runs import Environment, Run, TimedRun, runs_of

MARGIN = math.log1p(0.01)
"""A stage that is timed by itself ends in a wait which the whole has not: up to 0.7% of a short one (H100, 256)."""

Place = tuple[str, str]
"""A case, and a variant."""


def stage_sums(
    runs: Sequence[Run],
    stages: Sequence[str],
    places: Sequence[Place],
    clock_mhz: float | None,
    looks: Sequence[int] = (),
) -> Iterator[StageSum]:
    """Of each place at which the whole and its ``stages`` were timed.

    Those that disagree do so with one error for all of them together.
    """
    found = {place: rests for place in places if (rests := _rests(runs, stages, place, clock_mhz))}
    error = min((allowed_error(len(rests), looks) for rests in found.values()), default=joint.ALPHA)
    apart = {
        place
        for side in (1, -1)
        for place in joint.shown_above({p: _beyond(rests, side) for p, rests in found.items()}, error / 2)
    }
    for (case, variant), rests in found.items():
        change = paired_change(rests, 1 - allowed_error(len(rests), looks))
        state: SumState = "disagree" if (case, variant) in apart else "agree"
        yield StageSum(
            case=case,
            variant=variant,
            apart_pct=change.delta_pct,
            ci_pct=change.ci_pct,
            num_processes=change.num_processes,
            state="too few processes" if change.ci_pct is None else state,
        )


def disagreements(sums: Iterable[StageSum], environment: Environment) -> Iterator[str]:
    """Says where whole and stages disagree; on a CPU, which overlaps nothing the same way twice, none is a fault."""
    if environment.device_kind == "cpu":
        return
    for each in sums:
        if each.state == "disagree" and each.ci_pct is not None:
            interval = f"{each.apart_pct:+.1f}% ({each.ci_pct[0]:+.1f} to {each.ci_pct[1]:+.1f})"
            what = f"e2e takes {interval} against its stages together, which share no seed with it"
            yield f"{each.variant} at {each.case}: {what}; look for work that is served from a cache or in no stage"


def _beyond(rests: ByProcess, side: int) -> dict[int, float]:
    return {process: side * rest - MARGIN for process, rest in rests.items()}


def _rests(runs: Sequence[Run], stages: Sequence[str], place: Place, clock_mhz: float | None) -> dict[int, float]:
    """Median by process of the logarithm of the whole over the sum of its stages."""
    if len(stages) < 2:
        return {}
    timed_runs = runs_of(TimedRun, pictures.at(runs, *place))
    own = [run for run in timed_runs if drop_reason(run.conditions, clock_mhz) is None]
    whole, *parts = (_by_round(own, stage) for stage in (WHOLE, *stages))
    rounds = sorted(set(whole).intersection(*parts))
    rests = [math.log(whole[each][0] / sum(part[each][0] for part in parts)) for each in rounds]
    return process_medians(rests, [whole[each][1] for each in rounds])


def _by_round(own: Sequence[Run], stage: str) -> Mapping[int, tuple[float, int]]:
    """Milliseconds and process of each round."""
    return {number: (ms, run.process) for number, ms, run in timed(own, stage)}
