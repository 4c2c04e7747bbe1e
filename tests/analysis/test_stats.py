"""The interval of the median is the textbook's, and its coverage is what it claims."""

from __future__ import annotations

import math
import random

import pytest

from bagel_perf.analysis.stats import coverage, interval_rank, paired_change, pairs_needed

# Number of pairs, and the rank k of the published table.
TABLE = {6: 1, 7: 1, 8: 1, 9: 2, 10: 2, 11: 2, 12: 3, 13: 3, 14: 3, 15: 4, 16: 4, 18: 5, 20: 6, 24: 7, 30: 10, 40: 14}


@pytest.mark.parametrize(("num_pairs", "rank"), TABLE.items())
def test_the_rank_is_that_of_the_published_table(num_pairs: int, rank: int) -> None:
    assert interval_rank(num_pairs) == rank


def test_under_six_pairs_there_is_no_interval() -> None:
    assert [interval_rank(n) for n in range(6)] == [None] * 6
    assert pairs_needed() == 6


def test_a_higher_confidence_needs_more_pairs() -> None:
    assert pairs_needed(0.99) == 8


@pytest.mark.parametrize(
    ("num_pairs", "share"), [(6, 1 - 2 / 64), (8, 1 - 2 / 256), (9, 1 - 2 * 10 / 512), (12, 1 - 2 * 79 / 4096)]
)
def test_the_exact_coverage_is_that_of_the_rank(num_pairs: int, share: float) -> None:
    assert coverage(num_pairs) == pytest.approx(share)
    assert coverage(num_pairs) >= 0.95


@pytest.mark.parametrize("num_pairs", [6, 9, 20])
def test_the_interval_covers_the_true_median_as_often_as_it_claims(num_pairs: int) -> None:
    draw = random.Random(0)
    num_trials, num_covered = 2000, 0
    for _ in range(num_trials):
        # Skewed noise: a log-normal ratio whose median is exp(-0.1).
        ratios = [math.exp(-0.1 + 0.3 * draw.gauss(0, 1) ** 3) for _ in range(num_pairs)]
        interval = paired_change([1.0] * num_pairs, ratios).ci_pct
        assert interval is not None
        num_covered += interval[0] <= 100 * math.expm1(-0.1) <= interval[1]
    assert num_covered / num_trials > 0.94


def test_the_change_is_the_median_of_ratios_not_the_ratio_of_medians() -> None:
    change = paired_change([100.0, 200.0, 400.0], [90.0, 100.0, 396.0])
    assert change.delta_pct == pytest.approx(-10.0)
    assert change.ci_pct is None
    assert change.num_pairs == 3


def test_a_slow_machine_in_some_rounds_does_not_widen_the_interval() -> None:
    load = [1.0, 7.0, 2.0, 5.0, 1.0, 3.0]
    change = paired_change(load, [0.8 * each for each in load])
    assert change.ci_pct == pytest.approx((-20.0, -20.0))


def test_a_higher_confidence_takes_a_wider_interval_or_none() -> None:
    before, after = [100.0] * 9, [101.0, 102.0, 103.0, 104.0, 105.0, 106.0, 107.0, 108.0, 109.0]
    assert paired_change(before, after).ci_pct == pytest.approx((2.0, 8.0))
    assert paired_change(before, after, 0.98).ci_pct == pytest.approx((1.0, 9.0))
    assert paired_change(before, after, 0.999).ci_pct is None
    assert coverage(9, 0.98) == pytest.approx(1 - 2 / 512)


def test_swapping_the_arms_inverts_the_ratio() -> None:
    before, after = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.1, 1.9, 3.5, 3.9, 5.5, 6.1]
    there, back = paired_change(before, after), paired_change(after, before)
    assert (1 + there.delta_pct / 100) * (1 + back.delta_pct / 100) == pytest.approx(1)
