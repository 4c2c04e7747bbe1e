"""Two measurements that nothing pairs: the interval of the change errs no more than it may, whatever the noise."""

from __future__ import annotations

import numpy as np
import pytest

from bagel_perf.analysis.unpaired import judge_unpaired, samples_needed
from bagel_perf.schema.limits import parse_limit

FLAT = (100.0,) * 8


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
def test_a_verdict_follows_from_the_ends_of_both_intervals(
    candidate_ms: tuple[float, ...], limit: str, state: str
) -> None:
    assert judge_unpaired(FLAT, candidate_ms, parse_limit(limit)).state == state


def test_the_change_lies_between_the_ratios_of_opposite_ends() -> None:
    before, after = (90.0, 95.0, 100.0, 105.0, 110.0, 100.0, 100.0), (200.0, 210.0, 220.0, 230.0, 240.0, 220.0, 220.0)
    judgement = judge_unpaired(before, after, parse_limit("dit:3%"))
    assert judgement.estimate == pytest.approx(120.0)
    assert judgement.interval == pytest.approx(((200 / 110 - 1) * 100, (240 / 90 - 1) * 100))


def test_each_arm_needs_enough_samples_of_its_own() -> None:
    assert samples_needed() == 7
    judgement = judge_unpaired(FLAT, FLAT[:6], parse_limit("dit:3%"))
    assert (judgement.state, judgement.interval) == ("inconclusive", None)
    assert judgement.reason == "8 and 6 samples; 7 of each are needed"


@pytest.mark.parametrize("num_samples", [7, 10, 16])
@pytest.mark.parametrize("noise", ["normal", "heavy tails", "bursts"])
def test_false_alarms_are_rarer_than_a_gate_may_raise(noise: str, num_samples: int) -> None:
    """At a change that is just the limit, either wrong verdict may come up in 2.5%."""
    generator = np.random.default_rng(5)
    shape = (1000, 2, num_samples)
    logs = {
        "normal": generator.normal(0, 0.03, shape),
        "heavy tails": 0.03 * generator.standard_t(2, shape),
        "bursts": generator.normal(0, 0.01, shape) + 0.4 * (generator.random(shape) < 0.1),
    }[noise]
    latencies_ms = 100 * np.exp(logs) * np.array([1.0, 1.03])[:, None]
    limit = parse_limit("dit:3%")
    states = [judge_unpaired(before, after, limit).state for before, after in latencies_ms.tolist()]
    assert states.count("fail") / len(states) <= 0.025
    assert states.count("pass") / len(states) <= 0.025
