"""The interval of the median is the textbook's, its unit is the process, and its coverage is what it claims."""

from __future__ import annotations

import math
import random

import pytest

from bagel_perf.verdicts.planning import LOOKS, looks
from bagel_perf.verdicts.statistics import (
    CONFIDENCE,
    MIN_PROCESSES,
    allowed_error,
    coverage,
    interval_rank,
    paired_change,
    process_medians,
    stopped_coverage,
)

# Number of values, and the rank k of the published table.
TABLE = {6: 1, 7: 1, 8: 1, 9: 2, 10: 2, 11: 2, 12: 3, 13: 3, 14: 3, 15: 4, 16: 4, 18: 5, 20: 6, 24: 7, 30: 10, 40: 14}


def logs(*ratios: float) -> dict[int, float]:
    return {process: math.log(ratio) for process, ratio in enumerate(ratios)}


@pytest.mark.parametrize(("number", "rank"), TABLE.items())
def test_the_rank_is_that_of_the_published_table(number: int, rank: int) -> None:
    assert interval_rank(number) == rank


def test_under_six_processes_there_is_no_interval() -> None:
    assert [interval_rank(n) for n in range(6)] == [None] * 6
    assert MIN_PROCESSES == 6


@pytest.mark.parametrize(
    ("number", "share"), [(6, 1 - 2 / 64), (8, 1 - 2 / 256), (9, 1 - 2 * 10 / 512), (12, 1 - 2 * 79 / 4096)]
)
def test_the_exact_coverage_is_that_of_the_rank(number: int, share: float) -> None:
    assert coverage(number) == pytest.approx(share)
    assert coverage(number) >= 0.95


@pytest.mark.parametrize("number", [6, 9, 20])
def test_the_interval_covers_the_true_median_as_often_as_it_claims(number: int) -> None:
    draw = random.Random(0)
    num_trials, num_covered = 2000, 0
    for _ in range(num_trials):
        # Skewed noise: a log-normal ratio whose median is exp(-0.1).
        interval = paired_change({n: -0.1 + 0.3 * draw.gauss(0, 1) ** 3 for n in range(number)}).ci_pct
        assert interval is not None
        num_covered += interval[0] <= 100 * math.expm1(-0.1) <= interval[1]
    assert num_covered / num_trials > 0.94


def test_rounds_of_a_process_sharpen_its_median_and_give_no_more_of_them() -> None:
    medians = process_medians([1.0, 9.0, 2.0, 5.0, 6.0], [0, 0, 0, 4, 4])
    assert medians == {0: 2.0, 4: 5.5}
    many = process_medians([0.1, 0.2, 0.3] * 20, [process for process in range(5) for _ in range(12)])
    assert paired_change(many).ci_pct is None


def test_the_change_is_the_median_over_processes() -> None:
    change = paired_change(logs(0.9, 0.5, 0.99))
    assert change.delta_pct == pytest.approx(-10.0)
    assert (change.ci_pct, change.num_processes) == (None, 3)


def test_a_higher_confidence_takes_a_wider_interval_or_none() -> None:
    ratios = logs(1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 1.07, 1.08, 1.09)
    assert paired_change(ratios).ci_pct == pytest.approx((2.0, 8.0))
    assert paired_change(ratios, 0.98).ci_pct == pytest.approx((1.0, 9.0))
    assert paired_change(ratios, 0.999).ci_pct is None
    assert coverage(9, 0.98) == pytest.approx(1 - 2 / 512)


def test_looks_share_what_a_run_may_err_and_each_has_an_interval() -> None:
    assert allowed_error(6) == allowed_error(6, (6,)) == pytest.approx(1 - CONFIDENCE)
    for numbers in (looks(), looks(8), looks(12), (6, 7, 8, 9, 18)):
        assert sum(allowed_error(number, numbers) for number in numbers) == pytest.approx(1 - CONFIDENCE)
    assert [interval_rank(number, 1 - allowed_error(number, LOOKS)) for number in LOOKS] == [1, 2, 4]


def test_what_remains_after_all_looks_is_that_of_the_walk_of_signs() -> None:
    """By hand: 6 alike, or of 12 all but one, or of 18 all but three, less what had ended before."""
    assert stopped_coverage((6,)) == pytest.approx(coverage(6))
    assert stopped_coverage(LOOKS) == pytest.approx(0.96157, abs=1e-5)
    draw, missed, num_trials = random.Random(1), 0, 20_000
    for _ in range(num_trials):
        signs = [draw.random() < 0.5 for _ in range(18)]
        missed += any(not rank <= sum(signs[:n]) <= n - rank for n, rank in ((6, 1), (12, 2), (18, 4)))
    assert 1 - missed / num_trials == pytest.approx(stopped_coverage(LOOKS), abs=0.004)
