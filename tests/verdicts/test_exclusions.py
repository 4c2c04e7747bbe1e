"""Pairs are excluded by what was stated before, and never by how long they took."""

from __future__ import annotations

import inspect
import random

import pytest
from msgspec.structs import replace

from bagel_perf.records.runs import Conditions
from bagel_perf.verdicts import comparability
from bagel_perf.verdicts.comparability import exclusion_reason, is_invalid, median_clock

FINE = Conditions(
    window_ms=1400.0,
    num_samples=28,
    sm_clock_mhz=1980.0,
    throttle_reasons=(),
    temperature_c=60.0,
    power_w=600.0,
    energy_j=840.0,
    other_processes=0,
    cpu_load=0.1,
)
MEDIAN_MHZ = 1980.0


@pytest.mark.parametrize("reason", ["hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake"])
def test_a_gpu_that_slowed_down_drops_the_run(reason: str) -> None:
    held = replace(FINE, throttle_reasons=("sw_power_cap", reason))
    assert exclusion_reason(held, MEDIAN_MHZ) == f"the GPU slowed down: {reason}"


@pytest.mark.parametrize("reason", ["sw_power_cap", "gpu_idle", "application_clocks", "hw_slowdown", "bit_40"])
def test_what_is_normal_under_load_is_kept(reason: str) -> None:
    assert exclusion_reason(replace(FINE, throttle_reasons=(reason,)), MEDIAN_MHZ) is None


@pytest.mark.parametrize(("num_others", "words"), [(1, "1 other process on the GPU"), (2, "2 other processes on")])
def test_a_process_of_others_drops_the_run(num_others: int, words: str) -> None:
    assert words in (exclusion_reason(replace(FINE, other_processes=num_others), MEDIAN_MHZ) or "")


def test_a_clock_under_three_quarters_of_the_median_drops_the_run() -> None:
    assert exclusion_reason(replace(FINE, sm_clock_mhz=1485.0), MEDIAN_MHZ) is None
    reason = exclusion_reason(replace(FINE, sm_clock_mhz=1484.0), MEDIAN_MHZ)
    assert reason == "SM clock 1484 MHz, under 75% of the median 1980 MHz"


def test_what_could_not_be_read_drops_nothing() -> None:
    assert exclusion_reason(None, MEDIAN_MHZ) is None
    assert exclusion_reason(Conditions(window_ms=1.0), MEDIAN_MHZ) is None
    assert exclusion_reason(replace(FINE, sm_clock_mhz=100.0), None) is None


def test_the_median_is_that_of_the_clocks_that_were_read() -> None:
    clocks = [1000.0, None, 1980.0, 1900.0]
    assert median_clock([None, *(replace(FINE, sm_clock_mhz=clock) for clock in clocks)]) == 1900.0
    assert median_clock([None, Conditions(window_ms=1.0)]) is None


def test_over_a_quarter_of_the_pairs_excluded_is_invalid() -> None:
    assert [is_invalid(excluded, 12) for excluded in (0, 3, 4, 12)] == [False, False, True, True]
    assert not is_invalid(0, 0)


def test_no_rule_takes_a_latency() -> None:
    assert list(inspect.signature(exclusion_reason).parameters) == ["conditions", "run_median_clock"]
    assert not [name for name in Conditions.__struct_fields__ if "latency" in name]
    assert "window_ms" not in inspect.getsource(comparability)


@pytest.mark.parametrize("seed", range(20))
def test_durations_in_any_order_drop_the_same_runs(seed: int) -> None:
    draw = random.Random(seed)
    bad = [replace(FINE, sm_clock_mhz=900.0), replace(FINE, other_processes=3)]
    runs = [draw.choice([FINE, FINE, *bad]) for _ in range(24)]

    def timed_anew(run: Conditions) -> Conditions:
        factor = draw.uniform(0.01, 100)  # energy follows the time, and is no reason either
        return replace(run, window_ms=1400 * factor, energy_j=840 * factor, num_samples=1 + int(28 * factor))

    reasons = [exclusion_reason(run, MEDIAN_MHZ) for run in runs]
    assert [exclusion_reason(timed_anew(run), MEDIAN_MHZ) for run in runs] == reasons
