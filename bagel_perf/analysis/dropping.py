"""Which pairs of timed runs are left out, by rules that were stated before anything was measured.

No rule knows a latency: whoever drops the runs that were slow drops the regression. A software power cap is how a GPU
of this class works under full load, so it is recorded and drops nothing; ``hw_slowdown`` alone may be a mere change of
clocks, and one that lasts shows in the clock itself.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from bagel_perf.schema.conditions import Conditions

DROPPING_REASONS = ("hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake")
"""Throttle reasons of NVML that change what a run measures."""

MIN_CLOCK_SHARE = 0.75
"""Of the median clock of all timed runs; a run under it was made on a slower GPU."""

MAX_DROPPED_SHARE = 0.25
"""Of all pairs; beyond it the conditions were the rule, and what is left is no fair sample."""


def median_clock(conditions: Iterable[Conditions | None]) -> float | None:
    """Median in MHz of the SM clocks of all timed runs; None where none was read."""
    clocks = [each.sm_clock_mhz for each in conditions if each is not None and each.sm_clock_mhz is not None]
    return statistics.median(clocks) if clocks else None


def drop_reason(conditions: Conditions | None, run_median_clock: float | None) -> str | None:
    """Why a timed run does not count, in words; None where it does, or where nothing is known against it.

    ``run_median_clock`` is the median in MHz over all timed runs, as ``median_clock`` gives it.
    """
    if conditions is None:
        return None
    held = [reason for reason in DROPPING_REASONS if reason in (conditions.throttle_reasons or ())]
    if held:
        return "the GPU slowed down: " + ", ".join(held)
    if conditions.other_processes:
        plural = "es" * (conditions.other_processes > 1)
        return f"{conditions.other_processes} other process{plural} on the GPU"
    return _low_clock(conditions.sm_clock_mhz, run_median_clock)


def _low_clock(clock: float | None, median: float | None) -> str | None:
    if clock is None or median is None or clock >= MIN_CLOCK_SHARE * median:
        return None
    return f"SM clock {clock:.0f} MHz, under {MIN_CLOCK_SHARE:.0%} of the median {median:.0f} MHz"


def is_invalid(num_dropped: int, num_pairs: int) -> bool:
    """Whether too many pairs were dropped for a verdict: over a quarter of all that were measured."""
    assert 0 <= num_dropped <= num_pairs
    return num_dropped > MAX_DROPPED_SHARE * num_pairs
