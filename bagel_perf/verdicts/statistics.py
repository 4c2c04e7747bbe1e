"""Paired comparison of two series of latencies: the change of each process, and the interval of their median.

A variant has luck of its own in every process (layout, allocator, recorded graph), which all its rounds there share. So
the process is the unit: rounds only sharpen the change of their process. The interval lies between two order
statistics of the changes of the processes; its coverage follows from the binomial distribution alone, and needs
nothing but processes that are independent and a change whose median is the one to be known.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
FIRST_LOOK_ERROR = 0.032
"""Of the 5%, where a run may stop early."""

ByProcess = Mapping[int, float]
"""A value of each process, by its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedChange:
    """Relative change from reference to candidate in percent, and its interval (None where processes are too few)."""

    delta_pct: float
    ci_pct: tuple[float, float] | None
    num_processes: int


def paired_change(log_ratios: ByProcess, confidence: float = CONFIDENCE) -> PairedChange:
    """``exp(median d) - 1`` for ``d_p``, the median log-ratio of process p; at least one process."""
    median, interval = median_interval([*log_ratios.values()], confidence)
    return PairedChange(
        delta_pct=percent(median),
        ci_pct=None if interval is None else (percent(interval[0]), percent(interval[1])),
        num_processes=len(log_ratios),
    )


def process_medians(values: Sequence[float], processes: Sequence[int]) -> dict[int, float]:
    """The median of each process; ``processes`` has the number of the process of each value."""
    by_process: defaultdict[int, list[float]] = defaultdict(list)
    for value, process in zip(values, processes, strict=True):
        by_process[process].append(value)
    return {process: statistics.median(own) for process, own in by_process.items()}


def median_interval(
    values: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, tuple[float, float] | None]:
    """The median of at least one value, and the interval that covers it; None where the values are too few."""
    ordered = sorted(values)
    rank = interval_rank(len(ordered), confidence)
    interval = None if rank is None else (ordered[rank - 1], ordered[len(ordered) - rank])
    return statistics.median(ordered), interval


@functools.cache
def interval_rank(number: int, confidence: float = CONFIDENCE) -> int | None:
    """The largest k for which [d_(k), d_(n+1-k)] covers the median with ``confidence``; None where no k does.

    d_(1) <= ... <= d_(n) are the ordered values; the coverage is 1 - 2 P(Bin(n, 1/2) <= k - 1).
    """
    rank = 0
    for tail in _tails(number):
        if 1 - 2 * tail / (1 << number) < confidence:
            break
        rank += 1
    return rank or None


def _tails(number: int) -> Iterator[int]:
    """C(n, 0) + ... + C(n, k) for k = 0, 1, ..., each from the one before: thousands of them take no minutes."""
    term = tail = 1
    for k in range(1, number + 2):
        yield tail
        term = term * (number - k + 1) // k
        tail += term


def coverage(number: int, confidence: float = CONFIDENCE) -> float:
    """How often the interval of so many values holds the median: ``confidence`` or more; there has to be one."""
    rank = interval_rank(number, confidence)
    assert rank is not None
    return _coverage(number, rank)


def _coverage(number: int, rank: int) -> float:
    tail = next(itertools.islice(_tails(number), rank - 1, None)) if rank else 0
    return 1 - 2 * tail / (1 << number)


def percent(log_ratio: float) -> float:
    """The change in percent of a logarithm of a ratio."""
    return math.expm1(log_ratio) * 100


def change_of_medians_pct(before_ms: float | None, after_ms: float | None) -> float | None:
    """The change in percent from one median to another; None where either was not measured, or the first is 0."""
    return (after_ms / before_ms - 1) * 100 if before_ms and after_ms is not None else None


def allowed_error(num_processes: int, looks: Sequence[int] = ()) -> float:
    """How often an interval or a joint test of so many processes may err.

    ``looks`` are the numbers of processes after which a run would have stopped, none for a run of fixed length. Whoever
    stops may err at each of them: most of what all may is left to the first, with which six processes still have an
    interval, and the others share the rest.
    """
    if len(looks) < 2:
        return 1 - CONFIDENCE
    first = FIRST_LOOK_ERROR
    return first if num_processes <= looks[0] else (1 - CONFIDENCE - first) / (len(looks) - 1)


def stopped_coverage(looks: Sequence[int]) -> float:
    """How often, at least, an interval holds the median that was looked at after these numbers of processes.

    The walk of the signs is followed from look to look; which of them ends a run does not matter.
    """
    ranks = {number: interval_rank(number, 1 - allowed_error(number, looks)) for number in looks}
    signs, missed = {0: 1.0}, 0.0
    for number in range(1, max(looks) + 1):
        signs = {n: (signs.get(n, 0.0) + signs.get(n - 1, 0.0)) / 2 for n in range(number + 1)}
        rank = ranks.get(number)
        if rank is not None:
            missed += sum(signs.pop(n) for n in [*signs] if not rank <= n <= number - rank)
    return 1 - missed


MIN_PROCESSES = next(number for number in range(1, 100) if interval_rank(number) is not None)
"""The smallest number of processes that gives an interval, and with it a verdict: 6."""
