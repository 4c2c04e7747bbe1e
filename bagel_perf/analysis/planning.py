"""How many pairs a comparison takes: it stops when an interval is narrow enough, never when it shows something.

Even so, looking after every pair is not exact: pairs that all fall on one side of 0 lie closer together than others do,
and too many comparisons would show a regression where there is none. So the interval is looked at a few times only, at
numbers of pairs whose rank covers more than it has to; all looks together let through 2.9% at most, and under 2% in
simulation (``reports/gate-noise``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bagel_perf.analysis.stats import CONFIDENCE, interval_rank, median_interval
from bagel_perf.schema.blocks import FIRST_LOOK
from bagel_perf.schema.limits import Limit

MIN_HALF_WIDTH_PCT = 1.0
"""Nobody needs to know a change of latency better, unless they ask."""

LOOKS = (FIRST_LOOK, 14, 22, 32)
"""Numbers of pairs at which ``--pairs auto`` looks; the first is enough for six gated cells."""

MAX_PAIRS = LOOKS[-1]


def looks(maximum: int = MAX_PAIRS) -> tuple[int, ...]:
    """The numbers of pairs after which the interval is looked at; the last is ``maximum``, where it ends anyway."""
    assert maximum > 0
    return (*(number for number in LOOKS if number < maximum), maximum)


def wanted_half_width_pct(
    limit: Limit | None, *, reference_ms: float | None = None, asked_pct: float | None = None
) -> float:
    """Half the width that an interval may have: what was asked for, else a third of the limit, at least 1%.

    A limit in ms is one in percent of ``reference_ms``, the median latency of the reference.
    """
    if asked_pct is not None:
        return asked_pct
    if limit is None:
        return MIN_HALF_WIDTH_PCT
    if limit.percent is not None:
        return max(MIN_HALF_WIDTH_PCT, limit.percent / 3)
    assert reference_ms is not None
    return max(MIN_HALF_WIDTH_PCT, limit.amount / reference_ms * 100 / 3)


def is_precise(log_ratios: Sequence[float], half_width_pct: float, *, confidence: float = CONFIDENCE) -> bool:
    """Whether the interval of the median ratio is narrow enough; too few pairs for one are not precise.

    To be asked only at ``looks()``, of all gated cells together.
    """
    _, interval = median_interval(log_ratios, confidence)
    return interval is not None and _half_width_pct(*interval) <= half_width_pct


def expected_half_width_pct(log_ratios: Sequence[float], num_pairs: int, *, confidence: float = CONFIDENCE) -> float:
    """Half the width that the interval of so many pairs is expected to have, from a pilot of at least two.

    The ends of the interval are the order statistics k and n + 1 - k, which lie near the quantiles k / (n + 1) and
    1 - k / (n + 1); the pilot's own quantiles stand for them, so no shape of the noise is assumed. Infinite where so
    few pairs have no interval.
    """
    assert len(log_ratios) > 1
    rank = interval_rank(num_pairs, confidence)
    if rank is None:
        return math.inf
    ordered, share = sorted(log_ratios), rank / (num_pairs + 1)
    return _half_width_pct(_quantile(ordered, share), _quantile(ordered, 1 - share))


def expected_pairs(
    log_ratios: Sequence[float], half_width_pct: float, *, maximum: int = MAX_PAIRS, confidence: float = CONFIDENCE
) -> int:
    """The first look, the pilot's pairs included, at which the interval is expected to be narrow enough; at most
    ``maximum``."""
    to_come = [number for number in looks(maximum) if number >= len(log_ratios)]
    widths_pct = (expected_half_width_pct(log_ratios, number, confidence=confidence) for number in to_come)
    return next((number for number, pct in zip(to_come, widths_pct, strict=True) if pct <= half_width_pct), maximum)


def plan_text(
    log_ratios: Sequence[float],
    half_width_pct: float,
    *,
    seconds_per_pair: float,
    maximum: int = MAX_PAIRS,
    confidence: float = CONFIDENCE,
) -> str:
    """What is to come, as ``14 pairs, 9 min to resolve 2%``; where the maximum will not do, what it will resolve."""
    number = expected_pairs(log_ratios, half_width_pct, maximum=maximum, confidence=confidence)
    reached_pct = expected_half_width_pct(log_ratios, number, confidence=confidence)
    length = f"{number} pairs, {_duration_text(number * seconds_per_pair)}"
    if reached_pct <= half_width_pct:
        return f"{length} to resolve {half_width_pct:.2g}%"
    if math.isinf(reached_pct):
        return f"{length}, the most allowed: too few to resolve anything"
    return f"{length}, the most allowed, to resolve {reached_pct:.2g}%; {half_width_pct:.2g}% is out of reach"


def _half_width_pct(low: float, high: float) -> float:
    """Of an interval of log-ratios."""
    return math.expm1((high - low) / 2) * 100


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The order statistic ``share * (n + 1)``, interpolated; beyond the ends, the end."""
    place = min(max(share * (len(ordered) + 1) - 1, 0), len(ordered) - 1)
    below = min(int(place), len(ordered) - 2)
    return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])


def _duration_text(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
