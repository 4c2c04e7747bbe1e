"""Paired comparison of two series of latencies: median ratio with an exact interval.

The interval of the median lies between two order statistics of the differences; its coverage follows from the
binomial distribution alone, so it holds for any noise and needs no random numbers.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedChange:
    """Relative change from reference to candidate in percent, and its interval (None where pairs are too few)."""

    delta_pct: float
    ci_pct: tuple[float, float] | None
    num_pairs: int


def paired_change(
    reference_ms: Sequence[float], candidate_ms: Sequence[float], confidence: float = CONFIDENCE
) -> PairedChange:
    """``exp(median d) - 1`` for ``d_i = ln(candidate_i / reference_i)``; series of equal length, at least one pair."""
    median, interval = median_interval(log_ratios(reference_ms, candidate_ms), confidence)
    return PairedChange(
        delta_pct=_percent(median),
        ci_pct=None if interval is None else (_percent(interval[0]), _percent(interval[1])),
        num_pairs=len(reference_ms),
    )


def log_ratios(reference_ms: Sequence[float], candidate_ms: Sequence[float]) -> list[float]:
    """``ln(candidate_i / reference_i)`` of each pair; series of equal length, at least one pair."""
    assert len(reference_ms) == len(candidate_ms) > 0
    return [math.log(b / a) for a, b in zip(reference_ms, candidate_ms, strict=True)]


def median_interval(
    values: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, tuple[float, float] | None]:
    """The median of at least one value, and the interval that covers it; None where the values are too few."""
    ordered = sorted(values)
    rank = interval_rank(len(ordered), confidence)
    interval = None if rank is None else (ordered[rank - 1], ordered[len(ordered) - rank])
    return statistics.median(ordered), interval


@functools.cache
def interval_rank(num_pairs: int, confidence: float = CONFIDENCE) -> int | None:
    """The largest k for which [d_(k), d_(n+1-k)] covers the median with ``confidence``; None where no k does.

    d_(1) <= ... <= d_(n) are the ordered differences; the coverage is 1 - 2 P(Bin(n, 1/2) <= k - 1).
    """
    rank = 0
    for tail in _tails(num_pairs):
        if 1 - 2 * tail / (1 << num_pairs) < confidence:
            break
        rank += 1
    return rank or None


def _tails(num_pairs: int) -> Iterator[int]:
    """C(n, 0) + ... + C(n, k) for k = 0, 1, ..., each from the one before: thousands of pairs take no minutes."""
    term = tail = 1
    for k in range(1, num_pairs + 2):
        yield tail
        term = term * (num_pairs - k + 1) // k
        tail += term


def coverage(num_pairs: int, confidence: float = CONFIDENCE) -> float:
    """How often the interval of so many pairs holds the median: ``confidence`` or more; there has to be one."""
    rank = interval_rank(num_pairs, confidence)
    assert rank is not None
    return _coverage(num_pairs, rank)


def _coverage(num_pairs: int, rank: int) -> float:
    tail = next(itertools.islice(_tails(num_pairs), rank - 1, None)) if rank else 0
    return 1 - 2 * tail / (1 << num_pairs)


def pairs_needed(confidence: float = CONFIDENCE) -> int:
    """The smallest number of pairs that gives an interval."""
    return next(n for n in range(1, 100) if interval_rank(n, confidence) is not None)


def _percent(log_ratio: float) -> float:
    return math.expm1(log_ratio) * 100
