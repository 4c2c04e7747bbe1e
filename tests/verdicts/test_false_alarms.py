"""On a machine on which nothing changed the verdicts raise few false alarms, and they find what did change.

Trials are drawn from fixed seeds; ``reports/gate-noise`` shows the same in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from bagel_perf.records.gates import parse_limit
from bagel_perf.verdicts.judging import ChangeState, PairedSamples
from bagel_perf.verdicts.planning import LOOKS
from bagel_perf.verdicts.statistics import coverage, stopped_coverage
from noise_models import (
    MODELS,
    NOISES,
    ORDERS,
    Floats,
    apart_intervals,
    by_pair,
    change_states,
    covered,
    drawn_noise,
    false_tables,
    latencies_ms,
    limit_states,
    opposite_ends,
    ordered_differences,
    samples_of,
    stopped,
    t_test_in_blocks,
)

NUM_TRIALS = 2000
SIDES: tuple[ChangeState, ...] = ("regressed", "improved")
LIMIT = parse_limit("dit:3%")
IN_PLACE = tuple(name for name in NOISES if name not in ("drift", "heating"))
"""Noise that does not go on from one measurement to the next."""


@cache
def latencies(name: str, num_processes: int, order: str = "drawn every round") -> Floats:
    return latencies_ms(drawn_noise(name, np.random.default_rng(7), NUM_TRIALS, num_processes, 2), ORDERS[order])


def trials(name: str, num_processes: int, effect: float = 0.0) -> Sequence[PairedSamples]:
    return [*samples_of(latencies(name, num_processes), effect=effect)]


@pytest.mark.parametrize("name", NOISES)
def test_intervals_cover_what_they_claim_whatever_the_noise_and_the_luck_of_a_process(name: str) -> None:
    for number in (6, 12):
        assert covered(trials(name, number)) == pytest.approx(coverage(number), abs=0.014)


def test_pairs_that_count_for_themselves_cover_less_where_processes_have_luck() -> None:
    assert covered(map(by_pair, trials("luck per process", 12))) < 0.94
    assert covered(map(by_pair, trials("calm", 12))) > 0.96


@pytest.mark.parametrize("name", MODELS)
def test_the_order_of_the_harness_is_a_coin_of_every_round(name: str) -> None:
    """One that mirrors every other round raises up to 10% where noise comes and goes within four runs."""
    own = change_states(samples_of(latencies_ms(drawn_noise(name, np.random.default_rng(7), 1000, 6, 2))))
    assert max(own[side] for side in SIDES) / 1000 <= 1 / 64 + 0.012


@pytest.mark.parametrize(("name", "share"), [("drift", 0.2), ("heating", 0.9)])
def test_a_t_test_in_blocks_raises_many_more_under_the_same_noise(name: str, share: float) -> None:
    runs = drawn_noise(name, np.random.default_rng(7), NUM_TRIALS, 6, 2).runs
    assert np.mean(t_test_in_blocks(runs, num_runs=12) > 0) > share


def test_a_t_test_in_blocks_keeps_its_level_where_runs_are_independent() -> None:
    runs = drawn_noise("calm", np.random.default_rng(7), NUM_TRIALS, 6, 2).runs
    assert np.mean(t_test_in_blocks(runs, num_runs=12) > 0) == pytest.approx(0.025, abs=0.01)


POWER = {
    "calm": (0.99, 0.99),
    "drift": (0.98, 0.99),
    "heating": (0.99, 0.99),
    "bursts": (0.43, 0.43),
    "heavy tails": (0.84, 0.96),
    "recorded at 1024": (0.72, 0.84),
    "recorded at 256": (0.20, 0.30),
    "luck per process": (0.70, 0.95),
    "skewed luck": (0.40, 0.80),
}
"""Least share of comparisons that show a regression of 3%, with 6 and 12 processes."""


@pytest.mark.parametrize("name", POWER)
def test_a_regression_of_three_percent_is_found(name: str) -> None:
    for number, share in zip((6, 12), POWER[name], strict=True):
        states = change_states(trials(name, number, 0.03)[:1000])
        assert share - 0.04 <= states["regressed"] / 1000 <= share + 0.12


@pytest.mark.parametrize("name", NOISES)
def test_a_limit_leaves_room_for_noise_and_lets_no_regression_through(name: str) -> None:
    equal, just, beyond = (limit_states(trials(name, 6, effect), LIMIT) for effect in (0.0, 0.03, 0.06))
    assert equal["fail"] / NUM_TRIALS <= 0.005
    assert just["fail"] / NUM_TRIALS <= 0.027 and just["pass"] / NUM_TRIALS <= 0.027
    assert beyond["pass"] / NUM_TRIALS <= 0.015
    assert beyond["fail"] > 0


@pytest.mark.parametrize("name", ["calm", "bursts", "recorded at 256", "luck per process", "skewed luck"])
def test_a_table_of_equal_variants_has_a_verdict_in_no_more_than_a_twentieth(name: str) -> None:
    draw = np.random.default_rng(3)
    jointly, alone = false_tables([latencies_ms(drawn_noise(name, draw, 400, 6, 5)) for _ in range(6)])
    assert jointly <= 0.05 + 0.02
    assert alone > 0.3


@pytest.mark.parametrize("name", NOISES)
def test_stopping_on_precision_covers_what_is_printed(name: str) -> None:
    found = stopped(trials(name, LOOKS[-1])[:1000])
    assert found.covered >= stopped_coverage(LOOKS) - 0.012
    assert found.num_processes <= LOOKS[-1]


@pytest.mark.parametrize("name", IN_PLACE)
def test_an_interval_between_two_measurements_covers_what_it_claims(name: str) -> None:
    table = latencies_ms(drawn_noise(name, np.random.default_rng(7), NUM_TRIALS, 12, 1))
    shares = [
        np.mean([low <= 0 <= high for low, high in apart_intervals(table, 0.0, interval)])
        for interval in (ordered_differences, opposite_ends)
    ]
    assert shares[0] >= 0.959 - 0.012
    assert shares[0] < shares[1]
