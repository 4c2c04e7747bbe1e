"""A verdict follows from the interval of the pairs and from the limit, and nothing that regressed hides."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pytest

from bagel_perf.records.gates import Limit, parse_limit
from bagel_perf.verdicts.judging import Judgement, PairedSamples, change_state, joined, judge, noise_floor_pct
from bagel_perf.verdicts.statistics import PairedChange

LIMIT = parse_limit("dit:3%")
LOAD = (100.0, 700.0, 200.0, 500.0, 150.0, 300.0, 120.0, 900.0)


def changed(*percents: float, base_ms: Sequence[float] = LOAD) -> PairedSamples:
    """A process with one pair for each change, the load of the machine being another in each round."""
    pairs = [(base_ms[i % len(base_ms)], percent) for i, percent in enumerate(percents)]
    return PairedSamples(
        reference_ms=tuple(base for base, _ in pairs),
        candidate_ms=tuple(base * (1 + percent / 100) for base, percent in pairs),
        processes=tuple(range(len(pairs))),
    )


def moved(*differences_ms: float, base_ms: Sequence[float] = LOAD) -> PairedSamples:
    """A process with one pair for each difference."""
    reference_ms = tuple(base_ms[i % len(base_ms)] for i in range(len(differences_ms)))
    candidate_ms = tuple(a + d for a, d in zip(reference_ms, differences_ms, strict=True))
    return PairedSamples(
        reference_ms=reference_ms, candidate_ms=candidate_ms, processes=tuple(range(len(differences_ms)))
    )


def change(low: float, high: float) -> PairedChange:
    return PairedChange(delta_pct=(low + high) / 2, ci_pct=(low, high), num_processes=6)


@pytest.mark.parametrize(
    ("percents", "state"),
    [
        ((4.0, 5.0, 4.5, 4.0, 6.0, 3.1), "fail"),
        ((4.0, 5.0, 4.5, 4.0, 6.0, 2.9), "inconclusive"),
        ((1.0, 0.0, -1.0, 2.0, 2.9, 0.0), "pass"),
        ((1.0, 0.0, -1.0, 2.0, 3.1, 0.0), "inconclusive"),
        ((-20.0, -21.0, -30.0, -20.0, -25.0, -20.0), "pass"),
        # From nine processes on the interval leaves the outermost one on either side out, and no more.
        ((4.0, 5.0, 4.5, 4.0, 6.0, 4.0, 4.0, 5.0, -9.0), "fail"),
        ((4.0, 5.0, 4.5, 4.0, 6.0, 4.0, 4.0, -9.0, -9.0), "inconclusive"),
        ((1.0, 0.0, -1.0, 2.0, 0.0, 1.0, 0.0, 0.0, 60.0), "pass"),
        ((1.0, 0.0, -1.0, 2.0, 0.0, 1.0, 0.0, 60.0, 60.0), "inconclusive"),
    ],
)
def test_the_whole_interval_decides(percents: tuple[float, ...], state: str) -> None:
    assert judge(changed(*percents), LIMIT).state == state


def test_the_limit_decides() -> None:
    samples = changed(4.0, 5.0, 4.5, 4.0, 6.0, 4.2)
    states = [judge(samples, parse_limit(text)).state for text in ("dit:3.9%", "dit:4.1%", "dit:5.9%", "dit:6.1%")]
    assert states == ["fail", "inconclusive", "inconclusive", "pass"]


@pytest.mark.parametrize("percent", [0.1, 1.0, 2.5, 3.0, 7.0, 30.0])
def test_a_change_of_just_the_limit_is_within_it(percent: float) -> None:
    assert judge(changed(*[percent] * 6), Limit(stage="dit", percent=percent)).state == "pass"
    assert judge(changed(*[percent + 1e-6] * 6), Limit(stage="dit", percent=percent)).state == "fail"


@pytest.mark.parametrize("text", ["dit:3%", "dit:+3ms"])
def test_pairs_are_those_of_a_round(text: str) -> None:
    paired = changed(*[5.0] * 6)
    rotated = (*paired.candidate_ms[1:], paired.candidate_ms[0])
    assert judge(paired, parse_limit(text)).state == "fail"
    unlike = PairedSamples(reference_ms=paired.reference_ms, candidate_ms=rotated, processes=paired.processes)
    assert judge(unlike, parse_limit(text)).state == "inconclusive"


def test_estimate_and_interval_of_a_percentage_are_those_of_the_ratios() -> None:
    judgement = judge(changed(4.0, 5.0, 4.5, 4.0, 6.0, 3.5), LIMIT)
    assert judgement.interval == pytest.approx((3.5, 6.0))
    assert judgement.estimate == pytest.approx(100 * (math.sqrt(1.04 * 1.045) - 1))
    assert judgement.num_processes == 6
    assert isinstance(judgement.excess, dict)
    assert judgement.excess[0] == pytest.approx(math.log(1.04 / 1.03))
    assert judgement.reason == "the whole interval is beyond the limit"


@pytest.mark.parametrize(
    ("text", "state"), [("dit:+18ms", "fail"), ("dit:+20ms", "inconclusive"), ("dit:25ms", "pass")]
)
def test_a_limit_in_ms_is_held_to_the_differences(text: str, state: str) -> None:
    judgement = judge(moved(20.0, 21.0, 19.0, 20.0, 24.0, 22.0), parse_limit(text))
    assert judgement.state == state
    assert judgement.interval == pytest.approx((19.0, 24.0))
    assert judgement.estimate == pytest.approx(20.5)


@pytest.mark.parametrize(("number", "reason"), [(1, "1 process; 6 are needed"), (5, "5 processes; 6 are needed")])
def test_under_six_processes_nothing_is_concluded(number: int, reason: str) -> None:
    judgement = judge(changed(*[50.0] * number), LIMIT)
    assert (judgement.state, judgement.interval, judgement.reason) == ("inconclusive", None, reason)
    assert judgement.estimate == pytest.approx(50)


def test_a_verdict_without_an_interval_cannot_be_built() -> None:
    with pytest.raises(AssertionError):
        Judgement(limit=LIMIT, state="pass", estimate=0, interval=None, num_processes=5, reason="", excess={})


def test_series_of_unlike_length_are_no_pairs() -> None:
    with pytest.raises(AssertionError):
        PairedSamples(reference_ms=(1.0, 2.0), candidate_ms=(1.0,), processes=(0,))


def test_rounds_of_one_process_count_once() -> None:
    """Twelve rounds, all beyond the limit, of five processes: no verdict; of six, one of them within: none either."""
    many = changed(*[5.0] * 12)
    in_five = dataclasses.replace(many, processes=(0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4))
    assert (judge(in_five, LIMIT).state, judge(in_five, LIMIT).interval) == ("inconclusive", None)
    lucky = dataclasses.replace(changed(*[5.0] * 10, 2.0, 2.5), processes=tuple(round // 2 for round in range(12)))
    assert judge(lucky, LIMIT).interval == pytest.approx((2.25, 5.0), abs=0.01)
    assert judge(lucky, LIMIT).state == "inconclusive"


def test_a_failure_that_the_joint_test_does_not_show_is_none() -> None:
    fail, passed = judge(changed(*[5.0] * 6), LIMIT), judge(changed(*[0.0] * 6), LIMIT)
    assert joined(fail, is_shown=True, num_judged=6) is fail
    assert joined(passed, is_shown=False, num_judged=6) is passed
    alone = joined(fail, is_shown=False, num_judged=6)
    assert (alone.state, alone.interval) == ("inconclusive", fail.interval)
    assert alone.reason == "beyond the limit by itself, not among 6 that are judged together"


NONE = PairedChange(delta_pct=50, ci_pct=None, num_processes=5)


@pytest.mark.parametrize(
    ("own", "is_shown", "is_void", "state"),
    [
        (change(-5, -1), True, False, "improved"),
        (change(1, 5), True, False, "regressed"),
        (change(1, 5), False, False, "no difference shown"),
        (change(-1, 5), True, False, "no difference shown"),
        (change(0, 0), True, False, "no difference shown"),
        (change(0, 5), True, False, "no difference shown"),
        (NONE, False, False, "inconclusive"),
        (change(1, 5), True, True, "invalid"),
        (NONE, False, True, "invalid"),
    ],
)
def test_the_state_of_a_change(own: PairedChange, is_shown: bool, is_void: bool, state: str) -> None:
    assert change_state(own, is_shown=is_shown, is_void=is_void) == state


def test_the_noise_floor_is_half_the_interval_of_the_reference_against_itself() -> None:
    assert noise_floor_pct(change(-0.5, 1.5)) == pytest.approx(1.0)
    assert noise_floor_pct(NONE) is None
