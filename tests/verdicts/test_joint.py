"""The joint test names what is there, names hardly anything where nothing is, and knows how cells hang together."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from bagel_perf.verdicts import joint

EQUAL = dict(enumerate((0.01, -0.02, 0.015, -0.01, 0.005, -0.012)))
SLOWER = {process: 0.3 + 0.01 * process for process in range(6)}


def shifted(values: dict[int, float], shift: float) -> dict[int, float]:
    return {process: value + shift for process, value in values.items()}


def test_a_change_is_named_beside_any_number_of_equals() -> None:
    cells = {f"equal {number}": {p: v * (1 + number) for p, v in EQUAL.items()} for number in range(20)}
    assert joint.shown({"slower": SLOWER, **cells}) == {"slower"}
    assert joint.shown({"faster": {p: -v for p, v in SLOWER.items()}, **cells}) == {"faster"}


def test_cells_that_are_the_same_cost_no_more_than_one() -> None:
    small = {process: 0.004 + 0.0005 * process for process in range(6)}
    assert joint.shown({"one": small}) == {"one"}
    assert len(joint.shown(dict.fromkeys(range(50), small))) == 50


def test_one_side_alone_can_be_asked_for() -> None:
    faster = {process: -value for process, value in SLOWER.items()}
    assert joint.shown_above({"slower": SLOWER, "faster": faster}) == {"slower"}


def test_six_values_of_one_sign_are_not_enough_beside_noisier_ones() -> None:
    """One of them nearly 0: with its sign changed the statistic is as large, so chance explains it."""
    close = dict(enumerate((0.0001, 0.03, 0.02, 0.04, 0.01, 0.05)))
    others = {number: {p: random.Random(9 * number + p).gauss(0, 1) for p in range(6)} for number in range(12)}
    assert "close" not in joint.shown({"close": close, **others})


def test_fewer_than_six_processes_are_never_named() -> None:
    few = {process: SLOWER[process] for process in range(5)}
    assert joint.shown({"few": few, "slower": SLOWER}) == {"slower"}
    assert joint.shown({"few": few}) == frozenset()
    assert joint.shown({}) == frozenset()


def test_a_change_without_any_noise_is_named_and_no_change_is_not() -> None:
    constant = {"slower": dict.fromkeys(range(6), 0.03), "equal": dict.fromkeys(range(6), 0.0)}
    assert joint.shown(constant) == {"slower"}
    apart = {
        "slower": (dict.fromkeys(range(6), 1.0), dict.fromkeys(range(6), 1.03)),
        "equal": (dict.fromkeys(range(6), 1.0), dict.fromkeys(range(6), 1.0)),
    }
    assert joint.shown_above_apart(apart) == {"slower"}


def test_cells_may_lack_processes() -> None:
    part = dict(shifted(SLOWER, 0.1).items()) | {7: 0.4}
    assert joint.shown({"slower": {**SLOWER, 6: 0.35}, "part": part}) == {"slower", "part"}


@pytest.mark.parametrize("number", [6, 9, 13, 20])
@pytest.mark.parametrize("num_cells", [1, 12])
def test_equals_are_named_in_no_more_than_a_twentieth(number: int, num_cells: int) -> None:
    draw = np.random.default_rng(number)
    num_trials = 400
    named = sum(
        bool(joint.shown({c: dict(enumerate(row)) for c, row in enumerate(draw.standard_t(2, (num_cells, number)))}))
        for _ in range(num_trials)
    )
    assert named / num_trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / num_trials)


@pytest.mark.parametrize("number", [6, 8])
def test_equals_that_nothing_pairs_are_named_in_no_more_than_a_twentieth(number: int) -> None:
    draw = np.random.default_rng(number)
    named, num_trials = 0, 100
    for _ in range(num_trials):
        values = draw.standard_t(3, (8, 2, number)).tolist()
        cells = {c: (dict(enumerate(before)), dict(enumerate(after))) for c, (before, after) in enumerate(values)}
        named += bool(joint.shown_above_apart(cells))
    assert named / num_trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / num_trials)


def test_thousands_of_processes_take_no_more_memory_than_a_few() -> None:
    draw = np.random.default_rng(2)
    equal, slower = ({p: float(v) for p, v in enumerate(draw.normal(mean, 1, 20_000))} for mean in (0.0, 0.1))
    assert joint.shown({"slower": slower, "equal": equal}) == {"slower"}
    assert joint._signs(20_000).nbytes < 50_000_000


def test_the_same_data_gives_the_same_names_beyond_the_number_that_is_tried() -> None:
    draw = random.Random(4)
    cells = {c: {p: draw.gauss(0.4, 1) for p in range(16)} for c in range(6)}
    assert len({joint.shown(cells) for _ in range(3)}) == 1
