"""A comparison stops when it is precise enough, whatever it shows, and says beforehand how long that takes."""

from __future__ import annotations

import random

import pytest

from bagel_perf.analysis.judging import gate_confidence, gate_pairs_needed
from bagel_perf.analysis.planning import (
    LOOKS,
    MAX_PAIRS,
    expected_half_width_pct,
    expected_pairs,
    is_precise,
    looks,
    plan_text,
    wanted_half_width_pct,
)
from bagel_perf.analysis.stats import coverage
from bagel_perf.schema.limits import parse_limit


def noise(num_pairs: int, scale: float, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [draw.gauss(0, scale) for _ in range(num_pairs)]


@pytest.mark.parametrize(
    ("limit", "reference_ms", "asked_pct", "wanted_pct"),
    [
        ("dit:6%", None, None, 2.0),
        ("dit:2%", None, None, 1.0),
        ("dit:+60ms", 1000.0, None, 2.0),
        ("dit:+6ms", 1000.0, None, 1.0),
        (None, None, None, 1.0),
        ("dit:6%", None, 0.5, 0.5),
    ],
)
def test_a_third_of_the_limit_is_wanted_and_never_under_one_percent_unasked(
    limit: str | None, reference_ms: float | None, asked_pct: float | None, wanted_pct: float
) -> None:
    own = None if limit is None else parse_limit(limit)
    assert wanted_half_width_pct(own, reference_ms=reference_ms, asked_pct=asked_pct) == pytest.approx(wanted_pct)


def test_precision_is_half_the_width_of_the_interval_wherever_it_lies() -> None:
    ratios = [0.00, 0.01, 0.02, 0.005, 0.015, 0.012]
    for shift in (-0.5, 0.0, 0.5):
        moved = [each + shift for each in ratios]
        assert is_precise(moved, 1.01)
        assert not is_precise(moved, 1.0)


def test_a_burst_does_not_spoil_the_precision_once_the_rank_leaves_it_out() -> None:
    assert not is_precise([0.0] * 7 + [0.5], 1.0)
    assert is_precise([0.0] * 8 + [0.5], 1.0)


def test_too_few_pairs_are_never_precise() -> None:
    assert not is_precise([0.0] * 5, 50.0)
    assert not is_precise([0.0] * 6, 50.0, confidence=gate_confidence(2))
    assert is_precise([0.0] * 7, 50.0, confidence=gate_confidence(2))


def test_all_looks_together_raise_few_false_alarms_and_the_first_is_enough_for_six_gated_cells() -> None:
    assert sum((1 - coverage(number)) / 2 for number in LOOKS) < 0.03
    assert LOOKS[0] == gate_pairs_needed(6)


@pytest.mark.parametrize(
    ("maximum", "numbers"),
    [(32, (8, 14, 22, 32)), (14, (8, 14)), (12, (8, 12)), (4, (4,)), (50, (8, 14, 22, 32, 50))],
)
def test_the_last_look_is_at_the_maximum(maximum: int, numbers: tuple[int, ...]) -> None:
    assert looks(maximum) == numbers


def test_a_pilots_own_number_of_pairs_gives_its_own_width() -> None:
    for num_pairs in (6, 10, 14):
        pilot = noise(num_pairs, 0.01)
        width_pct = expected_half_width_pct(pilot, num_pairs)
        assert is_precise(pilot, width_pct * 1.001)
        assert not is_precise(pilot, width_pct * 0.999)


def test_the_expected_width_is_about_that_of_further_pairs() -> None:
    for num_pairs in (8, 14, 22, 32):
        seeds = range(200)
        expected = sum(expected_half_width_pct(noise(6, 0.02, seed), num_pairs) for seed in seeds) / len(seeds)
        found = sum(expected_half_width_pct(noise(num_pairs, 0.02, seed), num_pairs) for seed in seeds) / len(seeds)
        assert expected == pytest.approx(found, rel=0.2)


def test_more_noise_takes_more_pairs_and_no_more_than_the_maximum() -> None:
    numbers = [expected_pairs(noise(6, scale), 1.0) for scale in (0.001, 0.012, 0.02, 0.2)]
    assert numbers == sorted(numbers)
    assert (numbers[0], numbers[-1]) == (8, MAX_PAIRS)
    assert 8 < numbers[1] < MAX_PAIRS
    assert expected_pairs(noise(6, 0.2), 1.0, maximum=9) == 9


def test_a_pilot_that_is_longer_counts_in_full() -> None:
    assert expected_pairs(noise(8, 0.0001), 1.0) == 8
    assert expected_pairs(noise(9, 0.0001), 1.0) == 14


def test_gated_cells_take_more_pairs() -> None:
    assert expected_pairs([0.0] * 6, 1.0, confidence=gate_confidence(6)) == 8
    assert expected_pairs([0.0] * 6, 1.0, confidence=gate_confidence(7)) == 14


SPREAD = [0.0, 0.01, 0.02, 0.024, 0.034, 0.048]
"""Half its width is 2.4% at 6 pairs, less at more."""


@pytest.mark.parametrize(
    ("wanted_pct", "seconds_per_pair", "maximum", "text"),
    [
        (2.0, 38.6, 32, "14 pairs, 9 min to resolve 2%"),
        (2.5, 8.0, 32, "8 pairs, 64 s to resolve 2.5%"),
        (0.5, 600.0, 32, "32 pairs, 5.3 h, the most allowed, to resolve 1.1%; 0.5% is out of reach"),
        (2.0, 38.6, 5, "5 pairs, 3 min, the most allowed: too few to resolve anything"),
    ],
)
def test_the_plan_is_said_in_one_sentence(wanted_pct: float, seconds_per_pair: float, maximum: int, text: str) -> None:
    pilot = SPREAD[:4] if maximum < 6 else SPREAD
    assert plan_text(pilot, wanted_pct, seconds_per_pair=seconds_per_pair, maximum=maximum) == text
