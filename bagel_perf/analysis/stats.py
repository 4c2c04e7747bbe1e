"""Paired comparison of two series of latencies: median ratio with an exact interval.

The interval of the median lies between two order statistics of the differences; its coverage follows from the
binomial distribution alone, so it holds for any noise and needs no random numbers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedChange:
    """Relative change from reference to candidate in percent, and its interval (None where pairs are too few)."""

    delta_pct: float
    ci_pct: tuple[float, float] | None
    num_pairs: int


def paired_change(reference_ms: Sequence[float], candidate_ms: Sequence[float]) -> PairedChange:
    """``exp(median d) - 1`` for ``d_i = ln(candidate_i / reference_i)``; series of equal length, at least one pair."""
    assert len(reference_ms) == len(candidate_ms) > 0
    log_ratios = sorted(math.log(b / a) for a, b in zip(reference_ms, candidate_ms, strict=True))
    num_pairs = len(log_ratios)
    rank = interval_rank(num_pairs)
    interval = None if rank is None else (_percent(log_ratios[rank - 1]), _percent(log_ratios[num_pairs - rank]))
    return PairedChange(delta_pct=_percent(statistics.median(log_ratios)), ci_pct=interval, num_pairs=num_pairs)


def interval_rank(num_pairs: int, confidence: float = CONFIDENCE) -> int | None:
    """The largest k for which [d_(k), d_(n+1-k)] covers the median with ``confidence``; None where no k does.

    d_(1) <= ... <= d_(n) are the ordered differences; the coverage is 1 - 2 P(Bin(n, 1/2) <= k - 1).
    """
    rank, tail = 0, 0
    while 1 - 2 * (tail := tail + math.comb(num_pairs, rank)) / 2**num_pairs >= confidence:
        rank += 1
    return rank or None


def pairs_needed(confidence: float = CONFIDENCE) -> int:
    """The smallest number of pairs that gives an interval."""
    return next(n for n in range(1, 100) if interval_rank(n, confidence) is not None)


def _percent(log_ratio: float) -> float:
    return math.expm1(log_ratio) * 100
