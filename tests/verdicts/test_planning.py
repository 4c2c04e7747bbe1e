"""A comparison stops when it is precise enough, whatever it shows, and says beforehand how long that takes."""

from __future__ import annotations

import math
import random

import pytest

from bagel_perf.verdicts.planning import LOOKS, expected_half_width, looks, plan_text
from bagel_perf.verdicts.statistics import allowed_error, median_interval


def noise(number: int, scale: float, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [draw.gauss(0, scale) for _ in range(number)]


@pytest.mark.parametrize(
    ("maximum", "numbers"), [(None, (6, 12, 18)), (18, (6, 12, 18)), (12, (6, 12)), (8, (6, 8)), (6, (6,)), (7, (6, 7))]
)
def test_the_last_look_is_at_the_maximum(maximum: int | None, numbers: tuple[int, ...]) -> None:
    assert looks(maximum) == numbers


def test_a_pilots_own_number_of_processes_gives_its_own_width() -> None:
    for number in LOOKS:
        pilot = noise(number, 0.01)
        _, interval = median_interval(pilot, 1 - allowed_error(number, LOOKS))
        assert interval is not None
        assert expected_half_width(pilot, number, LOOKS) == pytest.approx((interval[1] - interval[0]) / 2)


def test_the_expected_width_is_about_that_of_further_processes() -> None:
    for number in LOOKS:
        seeds = range(200)
        expected = sum(expected_half_width(noise(6, 0.02, seed), number, LOOKS) for seed in seeds) / len(seeds)
        found = sum(expected_half_width(noise(number, 0.02, seed), number, LOOKS) for seed in seeds) / len(seeds)
        assert expected == pytest.approx(found, rel=0.25)


def test_a_pilot_of_which_rounds_were_excluded_tells_what_it_can() -> None:
    assert expected_half_width([0.01], 12, LOOKS) == math.inf
    assert expected_half_width([], 12, LOOKS) == math.inf
    assert expected_half_width([0.0, 0.01, 0.02], 12, LOOKS) > 0


@pytest.mark.parametrize(
    ("wanted_pct", "seconds", "widths_pct", "text"),
    [
        (2.0, 45.0, (2.4, 1.9, 1.1), "12 processes, 9 min to resolve 2%"),
        (2.5, 8.0, (2.4, 1.9, 1.1), "6 processes, 48 s to resolve 2.5%"),
        (0.5, 1100.0, (2.4, 1.9, 1.1), "18 processes, 5.5 h, the most allowed, to resolve 1.1%; 0.5% is out of reach"),
        (2.0, 10.0, (math.inf,) * 3, "18 processes, 3 min, the most allowed: too few to resolve anything"),
    ],
)
def test_the_plan_is_said_in_one_sentence(
    wanted_pct: float, seconds: float, widths_pct: tuple[float, ...], text: str
) -> None:
    assert plan_text(widths_pct, wanted_pct, LOOKS, seconds) == text
