"""Verdicts over latencies of two measurements that were not interleaved, which nothing pairs.

Each process of either measurement gives its median, and every process of the one is held against every process of the
other. The change is the median of these differences, and its interval lies between two of their order statistics, whose
coverage follows from the distribution of Mann and Whitney's U (Hodges and Lehmann, Annals of Mathematical Statistics
34, 1963). That covers the noise within and between the processes of either measurement, and nothing of what the machine
did between the two.
"""

from __future__ import annotations

import math
import statistics
from functools import cache

from bagel_perf.analysis.judging import REASONS, Judgement, bound_of, in_unit, processes_text, state_of
from bagel_perf.analysis.stats import CONFIDENCE, MIN_PROCESSES, ByProcess
from bagel_perf.schema.limits import Limit


def judge_unpaired(
    reference_ms: ByProcess, candidate_ms: ByProcess, limit: Limit, confidence: float = CONFIDENCE
) -> Judgement:
    """Holds the change to its limit by itself; medians in ms of at least one process of each arm."""
    assert reference_ms and candidate_ms
    before, after = _in_scale(reference_ms, limit), _in_scale(candidate_ms, limit)
    differences = sorted(b - a for a in before.values() for b in after.values())
    rank, bound = difference_rank(len(before), len(after), confidence), bound_of(limit)
    interval = None if rank is None else (differences[rank - 1], differences[-rank])
    state = state_of(interval, bound)
    few = f"{len(before)} and {processes_text(len(after))}; {MIN_PROCESSES} of each are needed"
    return Judgement(
        limit=limit,
        state=state,
        estimate=in_unit(limit, statistics.median(differences)),
        interval=None if interval is None else (in_unit(limit, interval[0]), in_unit(limit, interval[1])),
        num_processes=min(len(before), len(after)),
        reason=few if interval is None else REASONS[state],
        excess=(before, {process: each - bound for process, each in after.items()}),
    )


def _in_scale(ms: ByProcess, limit: Limit) -> dict[int, float]:
    """Latencies in the scale in which they are compared: logarithms for a limit in percent, else ms."""
    return {process: each if limit.percent is None else math.log(each) for process, each in ms.items()}


def difference_rank(num_before: int, num_after: int, confidence: float = CONFIDENCE) -> int | None:
    """The largest k for which [D_(k), D_(mn+1-k)] of the ordered differences covers the change with ``confidence``.

    None under six processes of either arm, where nothing else gets a verdict either. The coverage is
    1 - 2 P(U <= k - 1), with U of Mann and Whitney.
    """
    if min(num_before, num_after) < MIN_PROCESSES:
        return None
    total, below, rank = math.comb(num_before + num_after, num_after), 0, 0
    while 1 - 2 * (below := below + _arrangements(num_before, num_after, rank)) / total >= confidence:
        rank += 1
    return rank or None


@cache
def _arrangements(num_before: int, num_after: int, u: int) -> int:
    """In how many orders of both arms exactly u pairs have the candidate first."""
    if u < 0:
        return 0
    if num_before == 0 or num_after == 0:
        return int(u == 0)
    last_is_before = _arrangements(num_before - 1, num_after, u - num_after)
    return last_is_before + _arrangements(num_before, num_after - 1, u)
