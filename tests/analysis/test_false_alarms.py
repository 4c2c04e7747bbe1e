"""On a machine on which nothing changed the verdicts raise few false alarms, and they find what did change.

Trials are drawn from fixed seeds; ``reports/gate-noise`` shows the same in full.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from bagel_perf.analysis.judging import ChangeState, Place, judge_cells
from bagel_perf.analysis.planning import MAX_PAIRS, looks
from bagel_perf.schema.limits import parse_limit, parse_limits
from bagel_perf.schema.slots import STAGES
from noise_models import MODELS, ORDERS, Floats, auto_states, change_states, interleaved, limit_states, t_test_in_blocks

NUM_TRIALS = 6000
NUM_PAIRS = 6
SIGNS = {6: 1 / 2**6, 10: 11 / 2**10}
"""How often all pairs of 6, or all but one of 10, fall on one given side: what a false alarm takes."""

SIDES: tuple[ChangeState, ...] = ("regressed", "improved")

DRAWN = ORDERS["drawn every round"]
USUAL = tuple(name for name in MODELS if name != "periodic")
LIMIT = parse_limit("dit:3%")


@cache
def noise_of(name: str) -> Floats:
    return MODELS[name](np.random.default_rng(7), NUM_TRIALS, 2 * MAX_PAIRS)


@pytest.mark.parametrize("name", MODELS)
def test_an_order_drawn_every_round_is_exact_whatever_the_noise(name: str) -> None:
    for num_pairs, share in SIGNS.items():
        states = change_states(noise_of(name), 0.0, num_pairs=num_pairs, order=DRAWN)
        for side in SIDES:
            assert states[side] / NUM_TRIALS == pytest.approx(share, abs=0.004)
            assert states[side] / NUM_TRIALS <= 0.02


@pytest.mark.parametrize("name", MODELS)
def test_the_order_of_the_harness_is_such_an_order(name: str) -> None:
    """One that mirrors every other round raises up to 10% where noise comes and goes within four runs."""
    for num_pairs, share in SIGNS.items():
        states = change_states(noise_of(name), 0.0, num_pairs=num_pairs)
        assert max(states[side] for side in SIDES) / NUM_TRIALS <= share + 0.005


@pytest.mark.parametrize(("name", "share"), [("drift", 0.2), ("heating", 0.9), ("recorded at 256", 0.03)])
def test_a_t_test_in_blocks_raises_many_more_under_the_same_noise(name: str, share: float) -> None:
    assert np.mean(t_test_in_blocks(noise_of(name), 0.0, num_runs=NUM_PAIRS) > 0) > share


def test_a_t_test_in_blocks_keeps_its_level_where_runs_are_independent() -> None:
    assert np.mean(t_test_in_blocks(noise_of("calm"), 0.0, num_runs=NUM_PAIRS) > 0) == pytest.approx(0.025, abs=0.006)


def test_interleaving_without_an_order_by_chance_is_not_enough() -> None:
    states = change_states(noise_of("heating"), 0.0, num_pairs=NUM_PAIRS, order=ORDERS["reference first"])
    assert states["regressed"] / NUM_TRIALS > 0.06


POWER = {
    "calm": (0.99, 0.99, 0.99, 0.99),
    "drift": (0.91, 0.98, 0.99, 0.99),
    "heating": (0.98, 0.99, 0.99, 0.99),
    "bursts": (0.64, 0.78, 0.94, 0.98),
    "heavy tails": (0.73, 0.90, 0.98, 0.99),
    "recorded at 1024": (0.62, 0.77, 0.92, 0.96),
    "recorded at 256": (0.14, 0.19, 0.29, 0.42),
}
"""Least share of comparisons that show a regression of 3%, with 6, 10, 16 and 20 pairs."""


@pytest.mark.parametrize("name", POWER)
def test_a_regression_of_three_percent_is_found(name: str) -> None:
    for num_pairs, share in zip((6, 10, 16, 20), POWER[name], strict=True):
        states = change_states(noise_of(name)[:2000], 0.03, num_pairs=num_pairs)
        assert share <= states["regressed"] / 2000 <= share + 0.1


@pytest.mark.parametrize("name", MODELS)
def test_a_limit_leaves_room_for_noise_and_lets_no_regression_through(name: str) -> None:
    num_trials = 2000
    noise = noise_of(name)[:num_trials]
    equal, just, beyond = (
        limit_states(noise, effect, LIMIT, num_pairs=10, order=DRAWN) for effect in (0.0, 0.03, 0.06)
    )
    assert equal["fail"] / num_trials <= 0.002
    assert just["fail"] / num_trials <= 0.02 and just["pass"] / num_trials <= 0.02
    assert beyond["pass"] / num_trials <= 0.002
    assert beyond["fail"] > 0


@pytest.mark.parametrize("num_pairs", [8, 10])
def test_six_gated_cells_together_raise_no_more_than_one_may(num_pairs: int) -> None:
    places: list[Place] = [(res, stage) for res in (256, 1024) for stage in STAGES]
    limits = parse_limits(f"{stage}:0.000001%" for stage in STAGES)
    trials = list(interleaved(noise_of("drift"), 0.0, num_pairs=num_pairs, order=DRAWN))
    gates = [trials[first : first + len(places)] for first in range(0, NUM_TRIALS, len(places))]
    judged = [judge_cells(dict(zip(places, gate, strict=True)), limits) for gate in gates]
    assert np.mean([any(each.state == "fail" for each in cells) for cells in judged]) <= 0.03


@pytest.mark.parametrize("name", MODELS)
def test_stopping_on_precision_raises_no_more(name: str) -> None:
    states, num_pairs = auto_states(noise_of(name), 0.0, looks(), order=DRAWN)
    assert max(states["regressed"], states["improved"]) / NUM_TRIALS <= 0.02
    assert num_pairs <= MAX_PAIRS


def test_looking_after_every_pair_would_raise_too_many() -> None:
    states, _ = auto_states(noise_of("drift")[:3000], 0.0, range(6, MAX_PAIRS + 1), order=DRAWN)
    assert states["regressed"] / 3000 > 0.025
