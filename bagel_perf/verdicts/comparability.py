"""Which pairs of timed runs are excluded, and which results may be held against each other, by rules stated in advance.

No rule knows a latency: whoever excludes the runs that were slow excludes the regression. A software power cap is how a
GPU of this class works under full load, so it is recorded and excludes nothing; ``hw_slowdown`` alone may be a mere
change of clocks, and one that lasts shows in the clock itself.

Two results have to be made on alike machines, of the same requests, interleaved.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping

from bagel_perf.records.outlines import SubjectInfo
from bagel_perf.records.results import Result
from bagel_perf.records.runs import Conditions, Environment, differing_fields

EXCLUSION_REASONS = ("hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake")
"""Throttle reasons of NVML that change what a run measures."""

MIN_CLOCK_SHARE = 0.75
"""Of the median clock of all timed runs; a run under it was made on a slower GPU."""

MAX_EXCLUDED_SHARE = 0.25
"""Of all pairs; beyond it the conditions were the rule, and what is left is no fair sample."""


def median_clock(conditions: Iterable[Conditions | None]) -> float | None:
    """Median in MHz of the SM clocks of all timed runs; None where none was read."""
    clocks = [each.sm_clock_mhz for each in conditions if each is not None and each.sm_clock_mhz is not None]
    return statistics.median(clocks) if clocks else None


def exclusion_reason(conditions: Conditions | None, run_median_clock: float | None) -> str | None:
    """Why a timed run does not count, in words; None where it does, or where nothing is known against it.

    ``run_median_clock`` is the median in MHz over all timed runs, as ``median_clock`` gives it.
    """
    if conditions is None:
        return None
    held = [reason for reason in EXCLUSION_REASONS if reason in (conditions.throttle_reasons or ())]
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


def is_invalid(num_excluded: int, num_pairs: int) -> bool:
    """Whether too many pairs were excluded for a verdict: over a quarter of all that were measured."""
    assert 0 <= num_excluded <= num_pairs
    return num_excluded > MAX_EXCLUDED_SHARE * num_pairs


COMPARED = ("commit", "dirty")
"""Fields of an environment that may differ: what two results are compared for."""
LATER = ("host_cpu",)
"""Fields that older versions did not have."""
GATE_COMMAND = "bagel-perf gate "


def unlike(reference: Result, candidate: Result, unknown: Collection[str] = ()) -> list[str]:
    """Each field of environments, subjects and cases that differs, with both values, but what is ``unknown`` of one."""
    but = (*COMPARED, *unknown)
    environments = unlike_environments(reference.environment, candidate.environment, but)
    subjects = unlike_subjects(reference.subject, candidate.subject, but)
    return [*environments, *subjects, *_unlike_values({"seed": reference.seed}, {"seed": candidate.seed}, ())]


def unlike_makings(reference: Result, candidate: Result, but: Collection[str] = COMPARED) -> list[str]:
    """Each field ``but`` some that differs of where two results were made, and of what their subjects were made from.

    As the machine and the versions, and of BAGEL the preset and the weights.
    """
    environments = unlike_environments(reference.environment, candidate.environment, but)
    return [*environments, *_unlike_values(reference.subject.details, candidate.subject.details, but)]


def unlike_environments(
    reference: Environment, candidate: Environment, but: Collection[str] = COMPARED
) -> tuple[str, ...]:
    """Each field that differs ``but`` some, with both values; one that an older version did not tell is none."""
    names = differing_fields(reference, candidate)
    told = [name for name in names if name not in LATER or None not in _values(name, reference, candidate)]
    return tuple(_both(name, reference, candidate) for name in told if name not in but)


def unlike_subjects(
    reference: SubjectInfo | None, candidate: SubjectInfo | None, but: Collection[str] = COMPARED
) -> Iterator[str]:
    """Each detail that differs ``but`` some, and what the cases that both have ask for, but for the seed.

    As BAGEL's preset and weights, its prompt and steps. Of None nothing is known, so nothing differs.
    """
    if reference is None or candidate is None:
        return
    yield from _unlike_values(reference.details, candidate.details, but)
    for case in (case for case in candidate.asked if case in reference.asked):
        for each in _unlike_values(reference.asked[case], candidate.asked[case], ("seed",)):
            yield f"at {case} {each}"


def _unlike_values(before: Mapping[str, object], after: Mapping[str, object], but: Collection[str]) -> Iterator[str]:
    for key in dict.fromkeys((*before, *after)):
        if before.get(key) != after.get(key) and key not in but:
            yield f"{key} {before.get(key)} and {after.get(key)}"


def _both(name: str, reference: object, candidate: object) -> str:
    before, after = _values(name, reference, candidate)
    return f"{name} {before} and {after}"


def _values(name: str, *records: object) -> tuple[object, ...]:
    return tuple(getattr(record, name) for record in records)


def are_interleaved(reference: Result, candidate: Result) -> bool:
    """Whether one ``gate`` measured both in turns, so that their rounds are pairs."""
    is_gate = candidate.command.startswith(GATE_COMMAND) and candidate.command == reference.command
    return is_gate and candidate.order_seed == reference.order_seed
