"""Two measurements that nothing pairs: the interval of the change errs no more than it may, whatever the noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bagel_perf.records.gates import parse_limit
from bagel_perf.verdicts.gated_cells import difference_rank, judge_unpaired


def each(*values_ms: float) -> dict[int, float]:
    return dict(enumerate(values_ms))


FLAT = each(*[100.0] * 8)


@pytest.mark.parametrize(
    ("candidate_ms", "limit", "state"),
    [
        ((103.0,) * 8, "dit:3%", "pass"),
        ((103.1,) * 8, "dit:3%", "fail"),
        ((102.0,) * 4 + (104.0,) * 4, "dit:3%", "inconclusive"),
        ((120.0,) * 8, "dit:+20ms", "pass"),
        ((121.0,) * 8, "dit:+20ms", "fail"),
        ((50.0,) * 8, "dit:3%", "pass"),
    ],
)
def test_a_verdict_follows_from_the_ends_of_the_interval(
    candidate_ms: tuple[float, ...], limit: str, state: str
) -> None:
    assert judge_unpaired(FLAT, each(*candidate_ms), parse_limit(limit)).state == state


def test_the_rank_is_that_of_the_tables_of_mann_and_whitney() -> None:
    """Critical values of U at 5%, two sides, are one less."""
    assert [difference_rank(n, n) for n in (6, 7, 8, 10, 20)] == [6, 9, 14, 24, 128]
    assert difference_rank(6, 10) == 12
    assert difference_rank(5, 20) is None


def test_the_change_is_the_median_of_all_differences_and_lies_between_two_of_them() -> None:
    before, after = each(90.0, 95.0, 100.0, 105.0, 110.0, 101.0), each(200.0, 210.0, 220.0, 230.0, 240.0, 221.0)
    judgement = judge_unpaired(before, after, parse_limit("dit:3%"))
    ratios = sorted(b / a for a in before.values() for b in after.values())
    middle = math.sqrt(ratios[17] * ratios[18])
    assert judgement.estimate == pytest.approx((middle - 1) * 100)
    assert judgement.interval == pytest.approx(((ratios[5] - 1) * 100, (ratios[-6] - 1) * 100))


def test_each_arm_needs_six_processes_of_its_own() -> None:
    judgement = judge_unpaired(FLAT, each(*[100.0] * 5), parse_limit("dit:3%"))
    assert (judgement.state, judgement.interval) == ("inconclusive", None)
    assert judgement.reason == "8 and 5 processes; 6 of each are needed"


@pytest.mark.parametrize("number", [6, 10])
@pytest.mark.parametrize("noise", ["normal", "heavy tails", "bursts"])
def test_false_alarms_are_rarer_than_a_gate_may_raise(noise: str, number: int) -> None:
    """At a change that is just the limit, either wrong verdict may come up in 2.5%."""
    generator = np.random.default_rng(5)
    shape = (1000, 2, number)
    logs = {
        "normal": generator.normal(0, 0.03, shape),
        "heavy tails": 0.03 * generator.standard_t(2, shape),
        "bursts": generator.normal(0, 0.01, shape) + 0.4 * (generator.random(shape) < 0.1),
    }[noise]
    latencies_ms = 100 * np.exp(logs) * np.array([1.0, 1.03])[:, None]
    limit = parse_limit("dit:3%")
    states = [judge_unpaired(each(*before), each(*after), limit).state for before, after in latencies_ms.tolist()]
    assert states.count("fail") / len(states) <= 0.025 + 0.01
    assert states.count("pass") / len(states) <= 0.025 + 0.01
