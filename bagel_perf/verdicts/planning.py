"""How many processes a comparison takes: it stops when its intervals are narrow enough, never when they show something.

Even so, processes that by chance all fall on one side lie closer together than others do, so that whoever stops errs
more often than whoever had planned the same number. The intervals are therefore looked at a few times only, and share
what they may err (``statistics.allowed_error``): all looks together hold the median in at least
``statistics.stopped_coverage``.

The lines of a run that was killed become a result that says so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.records.ablations import Ablation, Saving
from bagel_perf.records.errors import RunFailed, UsageError
from bagel_perf.records.events import (
    EnvironmentEvent,
    FloorsEvent,
    InputEvent,
    LoadEvent,
    RunEvent,
    WarningEvent,
    read_lines,
)
from bagel_perf.records.outlines import Outline
from bagel_perf.records.plans import FIRST_LOOK, Plan
from bagel_perf.records.results import Result
from bagel_perf.records.runs import Run, TimedRun, runs_of
from bagel_perf.verdicts import identity
from bagel_perf.verdicts.changes import Changes, ablations_of
from bagel_perf.verdicts.compare import Session, build_result
from bagel_perf.verdicts.judging import latency_by_round
from bagel_perf.verdicts.statistics import allowed_error, interval_rank, percent

LOOKS = (FIRST_LOOK, 12, 18)
"""Numbers of processes at which ``--pairs auto`` looks."""


def looks_of(plan: Plan) -> tuple[int, ...]:
    """The numbers of processes after which the intervals of a plan are looked at; none where their number is fixed."""
    return () if plan.resolve_pct is None else looks(plan.processes)


def looks(maximum: int | None = None) -> tuple[int, ...]:
    """The numbers of processes after which the intervals are looked at; the last is ``maximum``, where it ends anyway.

    ``maximum`` is at least six.
    """
    last = LOOKS[-1] if maximum is None else maximum
    return (*(number for number in LOOKS if number < last), last)


def expected_half_width(values: Sequence[float], num_processes: int, looks: Sequence[int]) -> float:
    """Half the width that the interval of so many processes is expected to have, from those of a pilot.

    The ends of the interval are the order statistics k and n + 1 - k, which lie near the quantiles k / (n + 1) and
    1 - k / (n + 1); the pilot's own quantiles stand for them, so no shape of the noise is assumed. Infinite where
    so few processes have no interval, or the pilot is less than two.
    """
    rank = interval_rank(num_processes, 1 - allowed_error(num_processes, looks))
    if rank is None or len(values) < 2:
        return math.inf
    ordered, share = sorted(values), rank / (num_processes + 1)
    return (_quantile(ordered, 1 - share) - _quantile(ordered, share)) / 2


def plan_text(half_widths_pct: Sequence[float], wanted_pct: float, looks: Sequence[int], seconds: float) -> str:
    """What is to come, as ``12 processes, 9 min to resolve 2%``; where the last look will not do, what it will resolve.

    ``half_widths_pct`` are the expected ones at each look, ``seconds`` what a process takes.
    """
    found = zip(looks, half_widths_pct, strict=True)
    number, reached_pct = next(((n, pct) for n, pct in found if pct <= wanted_pct), (looks[-1], half_widths_pct[-1]))
    length = f"{number} processes, {duration_text(number * seconds)}"
    if reached_pct <= wanted_pct:
        return f"{length} to resolve {wanted_pct:.2g}%"
    if math.isinf(reached_pct):
        return f"{length}, the most allowed: too few to resolve anything"
    return f"{length}, the most allowed, to resolve {reached_pct:.2g}%; {wanted_pct:.2g}% is out of reach"


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The order statistic ``share * (n + 1)``, interpolated; beyond the ends, the end."""
    place = min(max(share * (len(ordered) + 1) - 1, 0), len(ordered) - 1)
    below = min(int(place), len(ordered) - 2)
    return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])


def duration_text(seconds: float) -> str:
    """In the unit in which people would say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def is_resolved(outline: Outline, runs: Sequence[Run], half_width_pct: float, looks: Sequence[int]) -> bool:
    """Whether every interval that the result will show is known within so many percent to either side.

    A saving of a component is held to that share of the reference's latency. What has no interval is not known.
    """
    return all(width_pct <= half_width_pct for width_pct in _half_widths_pct(outline, runs, tuple(looks)))


def outlook(outline: Outline, runs: Sequence[Run], half_width_pct: float, looks: Sequence[int], seconds: float) -> str:
    """How many processes and minutes the change that varies most is expected to take; ``seconds``: one process."""
    changes = _changes(outline, runs, tuple(looks))
    ratios = [[*each.values()] for each in changes.ratios(_pairs(outline)).values()]
    widths_pct = [
        percent(max((expected_half_width(each, number, looks) for each in ratios), default=math.inf))
        for number in looks
    ]
    return plan_text(widths_pct, half_width_pct, looks, seconds)


def _pairs(outline: Outline) -> list[tuple[str, str]]:
    steps = [*pairwise(outline.named)] if outline.successive else []
    return [*((outline.named[0], each) for each in outline.measured[1:]), *steps]


def _changes(outline: Outline, runs: Sequence[Run], looks: tuple[int, ...]) -> Changes:
    """As if every output were right; where one is not, nothing has to be known of it."""
    trusted = {(case, name) for case in outline.cases for name in outline.measured}
    return Changes.of(runs, outline.cases, outline.timed_stages, trusted, looks)


def _half_widths_pct(outline: Outline, runs: Sequence[Run], looks: tuple[int, ...]) -> Iterator[float]:
    changes = _changes(outline, runs, looks)
    deltas = [*changes.deltas(_pairs(outline))]
    if len(deltas) < len(outline.cases) * len(_pairs(outline)) * len(
        outline.timed_stages
    ):  # of some every round was left out
        yield math.inf
    for delta in deltas:
        low, high = (math.log1p(end / 100) for end in delta.ci_pct or (0.0, math.inf))
        yield percent((high - low) / 2)
    for ablation in ablations_of(outline, runs, changes.trusted, looks):
        own = identity.at(runs, ablation.case, ablation.reference)
        whole_ms = statistics.median(latency_by_round(own, ablation.stage).values())
        for saving in _savings(ablation):
            low, high = saving.ci_ms or (0.0, math.inf)
            yield (high - low) / 2 / whole_ms * 100


def _savings(ablation: Ablation) -> Iterator[Saving]:
    components = [(each.alone, each.last, each.apart) for each in ablation.components]
    for saving in (ablation.total, ablation.rest, *(each for component in components for each in component)):
        if saving is not None:
            yield saving


KILLED = "it was killed, or runs still; what was measured until then is shown"


def unfinished_result(path: Path) -> Result:
    """The result of a file of lines. Raises ``UsageError`` where it holds none."""
    head, events = read_lines(path)
    started = next((event for event in events if isinstance(event, EnvironmentEvent)), None)
    runs = tuple(event.run for event in events if isinstance(event, RunEvent))
    if started is None or started.outline is None or not runs:
        raise UsageError("unfinished result has no runs", value=path, remedy="run it again")
    rounds = [run.round + 1 for run in runs_of(TimedRun, runs)]
    session = Session(
        command=head.command,
        created=head.created,
        pairs=max(started.pairs, *rounds, 0),
        warmup=started.warmup,
        order_seed=head.plan.order_seed,
        processes=max(started.processes, *(run.process + 1 for run in runs)),
        looks=looks_of(head.plan),
    )
    result = build_result(
        started.outline,
        started.environment,
        runs,
        session,
        error=RunFailed("the run did not end", allowed=KILLED),
        warnings=[event.text for event in events if isinstance(event, WarningEvent)],
        inputs=[event.input for event in events if isinstance(event, InputEvent)],
        floors=next((event for event in reversed(events) if isinstance(event, FloorsEvent)), None),
    )
    return replace(result, loads=tuple(event.load for event in events if isinstance(event, LoadEvent)))
