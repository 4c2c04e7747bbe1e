"""How many processes a comparison takes: it stops when its intervals are narrow enough, never when they show something.

Even so, processes that by chance all fall on one side lie closer together than others do, so that whoever stops errs
more often than whoever had planned the same number. The intervals are therefore looked at a few times only, and share
what they may err (``stats.allowed_error``): all looks together hold the median in at least ``stats.stopped_coverage``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bagel_perf.analysis.stats import allowed_error, interval_rank
from bagel_perf.schema.blocks import FIRST_LOOK
from bagel_perf.schema.plans import Plan

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
