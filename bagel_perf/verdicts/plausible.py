"""Whether a result can be true: the whole takes what its stages take, numbers can be drawn, records fit one another.

Whole and stages are timed in runs and with seeds of their own, so nothing that one run leaves behind serves the next.
Where they still disagree, some work was in the one and not in the other, and neither is an account of the variant.

JSON has no NaN, so a null where the format wants a number has become one on reading, and no page can show that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from bagel_perf.records.errors import UsageError
from bagel_perf.records.outlines import WHOLE
from bagel_perf.records.results import Result, StageSum, SumState
from bagel_perf.records.runs import Environment, Run, TimedRun, runs_of
from bagel_perf.verdicts import identity, joint
from bagel_perf.verdicts.comparability import exclusion_reason
from bagel_perf.verdicts.identity import wrong_pictures
from bagel_perf.verdicts.judging import timed
from bagel_perf.verdicts.statistics import ByProcess, allowed_error, paired_change, process_medians

MARGIN = math.log1p(0.01)
"""A stage that is timed by itself ends in a wait which the whole has not: up to 0.7% of a short one (H100, 256)."""

Place = tuple[str, str]
"""A case, and a variant."""


def stage_sums(
    runs: Sequence[Run],
    stages: Sequence[str],
    places: Sequence[Place],
    clock_mhz: float | None,
    looks: Sequence[int] = (),
) -> Iterator[StageSum]:
    """Of each place at which the whole and its ``stages`` were timed.

    Those that disagree do so with one error for all of them together.
    """
    found = {place: rests for place in places if (rests := _rests(runs, stages, place, clock_mhz))}
    error = min((allowed_error(len(rests), looks) for rests in found.values()), default=joint.ALPHA)
    apart = {
        place
        for side in (1, -1)
        for place in joint.shown_above({p: _beyond(rests, side) for p, rests in found.items()}, error / 2)
    }
    for (case, variant), rests in found.items():
        change = paired_change(rests, 1 - allowed_error(len(rests), looks))
        state: SumState = "disagree" if (case, variant) in apart else "agree"
        yield StageSum(
            case=case,
            variant=variant,
            apart_pct=change.delta_pct,
            ci_pct=change.ci_pct,
            num_processes=change.num_processes,
            state="too few processes" if change.ci_pct is None else state,
        )


def disagreements(sums: Iterable[StageSum], environment: Environment) -> Iterator[str]:
    """Says where whole and stages disagree; on a CPU, which overlaps nothing the same way twice, none is a fault."""
    if environment.device_kind == "cpu":
        return
    for each in sums:
        if each.state == "disagree" and each.ci_pct is not None:
            interval = f"{each.apart_pct:+.1f}% ({each.ci_pct[0]:+.1f} to {each.ci_pct[1]:+.1f})"
            what = f"e2e takes {interval} against its stages together, which share no seed with it"
            yield f"{each.variant} at {each.case}: {what}; look for work that is served from a cache or in no stage"


def _beyond(rests: ByProcess, side: int) -> dict[int, float]:
    return {process: side * rest - MARGIN for process, rest in rests.items()}


def _rests(runs: Sequence[Run], stages: Sequence[str], place: Place, clock_mhz: float | None) -> dict[int, float]:
    """Median by process of the logarithm of the whole over the sum of its stages."""
    if len(stages) < 2:
        return {}
    timed_runs = runs_of(TimedRun, identity.at(runs, *place))
    own = [run for run in timed_runs if exclusion_reason(run.conditions, clock_mhz) is None]
    whole, *parts = (_by_round(own, stage) for stage in (WHOLE, *stages))
    rounds = sorted(set(whole).intersection(*parts))
    rests = [math.log(whole[each][0] / sum(part[each][0] for part in parts)) for each in rounds]
    return process_medians(rests, [whole[each][1] for each in rounds])


def _by_round(own: Sequence[Run], stage: str) -> Mapping[int, tuple[float, int]]:
    """Milliseconds and process of each round."""
    return {number: (ms, run.process) for number, ms, run in timed(own, stage)}


MAX_NUMBER = 1e15
MAX_FLOPS = 1e21
MAX_SEED = 2**64
LIMITS = {
    "flops": MAX_FLOPS,
    "seed": MAX_SEED,
    "order_seed": MAX_SEED,
    **dict.fromkeys(("spread", "distance"), math.inf),
}
"""By field, where others than ``MAX_NUMBER``: a stage takes more operations, a seed is any number of 64 bits, and an
output may hold any number."""
WORDS = frozenset({"details", "asked", "made_with"})
"""Fields whose values are shown as they are written, in which no number is meant for a drawing."""
INTERVALS = ("ci_pct", "ci_ms", "predicted_saving_ms", "predicted_ms", "measured_ci_ms", "interval")
NOT_NEGATIVE = frozenset(
    {
        "peak_bytes",
        "allocations",
        "kernels",
        "launches",
        "busy_ms",
        "count",
        "captures_ms",
        "spread",
        "params",
        "layers",
        "num_threads",
        "round",
        "process",
        "num_named",
        "num_values",
        "num_differing",
        "distance",
        "loop_steps",
        "shape",
        "pairs",
        "warmup",
        "processes",
        "exit_code",
        "num_pairs",
        "num_runs",
        "num_excluded",
        "host_syncs",
        "syncs_by_component",
        "copies",
        "counters",
        "queue_ms",
        "failures",
    }
)
"""Fields of what is counted or lasts."""
EXIT_CODES = {"pass": (0,), "outputs differ": (3,), "invalid": (5,)}
"""By verdict; an incomplete result has that of the error that ended it."""
NO_ERROR = (0, 3)


def check_result(result: Result) -> None:
    """Raises ``UsageError`` with the first field that no page can be made of."""
    check_numbers(result)
    for problem in _problems(result):
        raise UsageError(problem)


def check_numbers(record: object) -> None:
    """Raises ``UsageError`` where a number in a record is none, or too large, or an interval ends before it begins."""
    if not _is_odd(record, ""):  # places are worked out for the one that is
        return
    for place, value, allowed in odd_fields(record):
        shown = "null" if isinstance(value, float) and math.isnan(value) else str(value)[:60]
        raise UsageError(f"{place} cannot be shown", value=shown, allowed=f"it must be {allowed}")


def _is_odd(value: object, name: str) -> bool:
    """Whether ``odd_fields`` finds something."""
    if value is None or isinstance(value, str) or name in WORDS:
        return False
    if isinstance(value, (int, float)):
        return not (abs(value) < LIMITS.get(name, MAX_NUMBER) and (value >= 0 or name not in NOT_NEGATIVE))
    if isinstance(value, tuple):
        return any(_is_odd(each, name) for each in value) or (name in INTERVALS and value[0] > value[1])
    if isinstance(value, Mapping):
        return any(_is_odd(each, name) for each in value.values())
    assert isinstance(value, msgspec.Struct)
    return any(_is_odd(getattr(value, field), field) for field in value.__struct_fields__)


def odd_fields(value: object, place: str = "", name: str = "") -> Iterator[tuple[str, object, str]]:
    """Place, value, and what is allowed there; ``name`` is the field that ``value`` belongs to."""
    if name in WORDS:
        return
    if isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            yield from odd_fields(getattr(value, field), f"{place}.{field}" if place else field, field)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from odd_fields(each, f"{place}.{key}", name)
    elif isinstance(value, tuple):
        for number, each in enumerate(value):
            yield from odd_fields(each, f"{place}[{number}]", name)
        if name in INTERVALS and value[0] > value[1]:
            yield place, f"{value[0]:g} to {value[1]:g}", "an interval from low to high"
    elif isinstance(value, (int, float)):
        limit: float = LIMITS.get(name, MAX_NUMBER)
        if not abs(value) < limit:
            yield place, value, f"a number under {limit:g}"
        elif value < 0 and name in NOT_NEGATIVE:
            yield place, value, "0 or more"


def _problems(result: Result) -> Iterator[str]:
    yield from (f"{name} are empty" for name in ("variants", "cases", "stages") if not getattr(result, name))
    codes = EXIT_CODES.get(result.verdict)
    if result.exit_code not in codes if codes else result.exit_code in NO_ERROR:
        yield f"exit code {result.exit_code} does not go with the verdict {result.verdict}"
    yield from _cases(result)
    for number, cell in enumerate(result.cells):
        if any(each is not None and each <= 0 for each in (*cell.latency_ms, cell.median_ms)):
            yield f"cells[{number}] has a latency that is not positive"


def _cases(result: Result) -> Iterator[str]:
    """Records of a case or a stage that the result does not name."""
    for name in (
        "cells",
        "outputs",
        "identity",
        "deltas",
        "steps",
        "noise",
        "stage_sums",
        "excluded",
        "ablations",
        "loads",
    ):
        for number, each in enumerate(getattr(result, name)):
            if each.case not in result.cases:
                yield f"{name}[{number}].case is none of the cases: {each.case[:60]}"
            if name == "loads" and each.variant not in result.outline.measured:
                yield f"loads[{number}].variant is none of the variants: {each.variant[:60]}"
            if getattr(each, "stage", WHOLE) not in (*result.stages, WHOLE):
                yield f"{name}[{number}].stage is none of the stages: {each.stage[:60]}"


def contradictions(result: Result) -> tuple[str, ...]:
    """Where a result says two things of its outputs, a sentence each."""
    return tuple(dict.fromkeys(_contradictions(result)))


def _contradictions(result: Result) -> Iterator[str]:
    if result.verdict == "pass":
        for finding in wrong_pictures(result):
            yield f"The result says that it passed, and its own runs and checks say otherwise: {finding}."
    md5 = {(each.case, each.variant): each.md5 for each in result.outputs}
    for check in result.identity:
        both = [md5.get((check.case, name)) for name in (check.reference, check.candidate)]
        if check.identical and None not in both and both[0] != both[1]:
            yield (
                f"The result says that {check.candidate} at {check.case} gave the {result.outline.noun} of "
                f"{check.reference}, and the md5 of the two are not the same."
            )
