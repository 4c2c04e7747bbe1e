"""Conditions of a run refuse what cannot be, and survive JSON."""

from __future__ import annotations

import json
import math

import pytest

from bagel_perf.records.codec import from_json, to_json
from bagel_perf.records.errors import UsageError
from bagel_perf.records.runs import Conditions

FULL = Conditions(
    window_ms=1400.5,
    num_samples=28,
    sm_clock_mhz=1980.0,
    sm_clock_min_mhz=1755.0,
    memory_clock_mhz=2619.0,
    throttle_reasons=("sw_power_cap",),
    temperature_c=64.0,
    power_w=640.25,
    energy_j=896.5,
    other_processes=0,
    cpu_load=0.07,
    cpu_load_of_others=0.01,
)


@pytest.mark.parametrize("conditions", [FULL, Conditions(window_ms=3.0), Conditions(window_ms=3.0, cpu_load=1.0)])
def test_conditions_survive_json(conditions: Conditions) -> None:
    assert from_json(Conditions, json.loads(json.dumps(to_json(conditions)))) == conditions


def test_nothing_throttled_is_not_unknown() -> None:
    nothing = Conditions(window_ms=3.0, throttle_reasons=())
    assert from_json(Conditions, to_json(nothing)).throttle_reasons == ()
    assert Conditions(window_ms=3.0).throttle_reasons is None


@pytest.mark.parametrize(
    "field",
    [
        {"window_ms": 0.0},
        {"window_ms": math.nan},
        {"num_samples": -1},
        {"sm_clock_mhz": -5.0},
        {"sm_clock_min_mhz": 1981.0, "sm_clock_mhz": 1980.0},
        {"power_w": math.nan},
        {"energy_j": -0.1},
        {"other_processes": -1},
        {"cpu_load": 1.01},
        {"cpu_load_of_others": -0.01},
        {"throttle_reasons": ("sw_power_cap", "sw_power_cap")},
    ],
)
def test_impossible_conditions_are_a_usage_error_that_names_the_field(field: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(field))):
        Conditions(**{"window_ms": 1.0, **field})  # type: ignore[arg-type]
