"""Verdicts over latencies of two measurements that were not interleaved, which nothing pairs.

The change is that of the medians. Each median has an interval of its own, and the change lies between the ratios of
their opposite ends; each end is wrong where either interval is, so each has half of the error that is allowed. That
covers the noise within either measurement, and nothing of what the machine did between them.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bagel_perf.analysis.judging import REASONS, ROUNDING, Judgement, state_of
from bagel_perf.analysis.stats import CONFIDENCE, median_interval, pairs_needed
from bagel_perf.schema.limits import Limit


def samples_needed(confidence: float = CONFIDENCE) -> int:
    """The smallest number of samples of each arm that gives an interval."""
    return pairs_needed(_of_each(confidence))


def judge_unpaired(
    reference_ms: Sequence[float], candidate_ms: Sequence[float], limit: Limit, *, confidence: float = CONFIDENCE
) -> Judgement:
    """Holds the change of the median to its limit; at least one sample of each arm, in ms."""
    assert reference_ms and candidate_ms
    before, after = statistics.median(reference_ms), statistics.median(candidate_ms)
    interval = _interval(reference_ms, candidate_ms, limit, _of_each(confidence))
    state = state_of(interval, limit.amount + 100 * ROUNDING)
    few = f"{len(reference_ms)} and {len(candidate_ms)} samples; {samples_needed(confidence)} of each are needed"
    return Judgement(
        limit=limit,
        state=state,
        estimate=_change(before, after, limit),
        interval=interval,
        num_pairs=min(len(reference_ms), len(candidate_ms)),
        confidence=confidence,
        reason=few if interval is None else REASONS[state],
    )


def _of_each(confidence: float) -> float:
    return 1 - (1 - confidence) / 2


def _interval(
    reference_ms: Sequence[float], candidate_ms: Sequence[float], limit: Limit, confidence: float
) -> tuple[float, float] | None:
    (_, before), (_, after) = (median_interval(each, confidence) for each in (reference_ms, candidate_ms))
    if before is None or after is None:
        return None
    return _change(before[1], after[0], limit), _change(before[0], after[1], limit)


def _change(before_ms: float, after_ms: float, limit: Limit) -> float:
    """In the unit of the limit."""
    return after_ms - before_ms if limit.percent is None else (after_ms / before_ms - 1) * 100
