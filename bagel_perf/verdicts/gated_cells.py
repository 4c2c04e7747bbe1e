"""From the runs of two arms to latencies held to their limits, with one error for all of them together.

Two measurements that were not interleaved have no pairs. There each process gives its median, and every process of the
one is held against every process of the other. The change is the median of these differences, and its interval lies
between two of their order statistics, whose coverage follows from the distribution of Mann and Whitney's U (Hodges and
Lehmann, Annals of Mathematical Statistics 34, 1963). That covers the noise within and between the processes of either
measurement, and nothing of what the machine did between the two.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from msgspec.structs import replace

from bagel_perf.records.gates import Finding, GatedCell, Limit, Unit, limit_of
from bagel_perf.records.results import Unit as Independent
from bagel_perf.records.runs import Run, TimedRun, runs_of
from bagel_perf.verdicts import joint
from bagel_perf.verdicts.changes import broken_controls, by_unit
from bagel_perf.verdicts.comparability import exclusion_reason, is_invalid
from bagel_perf.verdicts.judging import (
    REASONS,
    Judgement,
    bound_of,
    in_unit,
    joined,
    judge,
    paired,
    processes_text,
    state_of,
    timed,
)
from bagel_perf.verdicts.statistics import CONFIDENCE, MIN_PROCESSES, ByProcess, allowed_error, process_medians


def judge_unpaired(
    reference_ms: ByProcess, candidate_ms: ByProcess, limit: Limit, confidence: float = CONFIDENCE
) -> Judgement:
    """Holds the change to its limit by itself; medians in ms of at least one process of each arm."""
    assert reference_ms and candidate_ms
    before, after = _in_scale(reference_ms, limit), _in_scale(candidate_ms, limit)
    differences = sorted(b - a for a in before.values() for b in after.values())
    rank, bound = difference_rank(len(before), len(after), confidence), bound_of(limit)
    interval = None if rank is None else (differences[rank - 1], differences[-rank])
    state = state_of(interval, bound)
    few = f"{len(before)} and {processes_text(len(after))}; {MIN_PROCESSES} of each are needed"
    return Judgement(
        limit=limit,
        state=state,
        estimate=in_unit(limit, statistics.median(differences)),
        interval=None if interval is None else (in_unit(limit, interval[0]), in_unit(limit, interval[1])),
        num_processes=min(len(before), len(after)),
        reason=few if interval is None else REASONS[state],
        excess=(before, {process: each - bound for process, each in after.items()}),
    )


def _in_scale(ms: ByProcess, limit: Limit) -> dict[int, float]:
    """Latencies in the scale in which they are compared: logarithms for a limit in percent, else ms."""
    return {process: each if limit.percent is None else math.log(each) for process, each in ms.items()}


def difference_rank(num_before: int, num_after: int, confidence: float = CONFIDENCE) -> int | None:
    """The largest k for which [D_(k), D_(mn+1-k)] of the ordered differences covers the change with ``confidence``.

    None under six processes of either arm, where nothing else gets a verdict either. The coverage is
    1 - 2 P(U <= k - 1), with U of Mann and Whitney.
    """
    if min(num_before, num_after) < MIN_PROCESSES:
        return None
    total, below, rank = math.comb(num_before + num_after, num_after), 0, 0
    while 1 - 2 * (below := below + _arrangements(num_before, num_after, rank)) / total >= confidence:
        rank += 1
    return rank or None


@cache
def _arrangements(num_before: int, num_after: int, u: int) -> int:
    """In how many orders of both arms exactly u pairs have the candidate first."""
    if u < 0:
        return 0
    if num_before == 0 or num_after == 0:
        return int(u == 0)
    last_is_before = _arrangements(num_before - 1, num_after, u - num_after)
    return last_is_before + _arrangements(num_before, num_after - 1, u)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """Runs of the reference and of the candidate in one case; ``clocks_mhz`` are the medians that theirs are held to.

    Only runs that were measured in the same session are paired. ``looks`` are the numbers of processes after which one
    of the measurements would have stopped. With a ``unit`` of rounds, as of servers, each round counts for itself.
    """

    variant: str
    case: str
    stages: tuple[str, ...]
    reference: Sequence[Run]
    candidate: Sequence[Run]
    clocks_mhz: tuple[float | None, float | None]
    is_paired: bool
    looks: tuple[int, ...] = ()
    unit: Independent = "process"

    def error_of(self, num_processes: int) -> float:
        """How often an interval or the joint test of so many processes may err."""
        return allowed_error(num_processes, self.looks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """A stage of two arms and the limit that holds for it, which names its case."""

    arms: Arms
    stage: str
    limit: Limit

    def __str__(self) -> str:
        return f"{self.arms.variant} at {self.arms.case}: {self.stage}"


def gated_of(arms: Sequence[Arms], limits: Sequence[Limit]) -> tuple[Gated, ...]:
    """All stages that have a limit."""
    return tuple(
        Gated(arms=each, stage=stage, limit=replace(limit, case=each.case, stage=stage))
        for each in arms
        for stage in each.stages
        if (limit := limit_of(limits, each.case, stage)) is not None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """A cell by itself, and what it was judged from; ``before_ms`` and ``after_ms`` are all samples that count."""

    gated: Gated
    judgement: Judgement
    before_ms: Sequence[float]
    after_ms: Sequence[float]
    num_excluded: int


def judge_gated(gated: Sequence[Gated]) -> tuple[GatedCell, ...]:
    """Those that have samples; a failure has to show in the joint test of all of them as well."""
    alone = [judged for each in gated if (judged := (_judge_pairs if each.arms.is_paired else _judge_apart)(each))]
    beyond = _jointly_beyond(alone)
    return tuple(_cell(judged, is_shown=number in beyond, num_judged=len(alone)) for number, judged in enumerate(alone))


def _jointly_beyond(alone: Sequence[_Judged]) -> frozenset[int]:
    error = min((each.gated.arms.error_of(each.judgement.num_processes) for each in alone), default=1 - CONFIDENCE)
    paired_cells, cells_apart = dict[int, ByProcess](), dict[int, tuple[ByProcess, ByProcess]]()
    for number, each in enumerate(alone):
        excess = each.judgement.excess
        if isinstance(excess, tuple):
            cells_apart[number] = excess
        else:
            paired_cells[number] = excess
    return joint.shown_above(paired_cells, error) | joint.shown_above_apart(cells_apart, error)


def _judge_pairs(gated: Gated) -> _Judged | None:
    arms = gated.arms
    samples = paired(arms.reference, arms.candidate, gated.stage, arms.clocks_mhz[0])
    if samples is None:
        return None
    samples = by_unit(samples, arms.unit)
    confidence = 1 - arms.error_of(len(set(samples.processes)))
    return _Judged(
        gated=gated,
        judgement=judge(samples, gated.limit, confidence),
        before_ms=samples.reference_ms,
        after_ms=samples.candidate_ms,
        num_excluded=samples.num_excluded,
    )


def _judge_apart(gated: Gated) -> _Judged | None:
    arms = gated.arms
    sides = zip((arms.reference, arms.candidate), arms.clocks_mhz, strict=True)
    (before, excluded), (after, more) = (_counting(own, gated.stage, clock) for own, clock in sides)
    if not before or not after:
        return None
    medians = [process_medians([ms for ms, _ in own], [process for _, process in own]) for own in (before, after)]
    return _Judged(
        gated=gated,
        judgement=judge_unpaired(medians[0], medians[1], gated.limit, 1 - arms.error_of(min(map(len, medians)))),
        before_ms=[ms for ms, _ in before],
        after_ms=[ms for ms, _ in after],
        num_excluded=max(excluded, more),
    )


def _counting(own: Sequence[Run], stage: str, clock_mhz: float | None) -> tuple[list[tuple[float, int]], int]:
    """Latency in ms and process of each run that counts, and the number of those that do not."""
    found = [(ms, run) for _, ms, run in timed(own, stage)]
    kept = [(ms, run.process) for ms, run in found if exclusion_reason(run.conditions, clock_mhz) is None]
    return kept, len(found) - len(kept)


def _cell(judged: _Judged, *, is_shown: bool, num_judged: int) -> GatedCell:
    gated, judgement = judged.gated, joined(judged.judgement, is_shown=is_shown, num_judged=num_judged)
    return GatedCell(
        case=gated.arms.case,
        stage=gated.stage,
        variant=gated.arms.variant,
        before_ms=statistics.median(judged.before_ms),
        after_ms=statistics.median(judged.after_ms),
        change=judgement.estimate,
        interval=judgement.interval,
        limit=gated.limit,
        verdict=judgement.state,
        reason=judgement.reason,
        num_pairs=min(len(judged.before_ms), len(judged.after_ms)),
        num_processes=judgement.num_processes,
        num_excluded=judged.num_excluded,
        confidence=1 - gated.arms.error_of(judgement.num_processes),
        is_paired=gated.arms.is_paired,
    )


def cell_findings(cells: Sequence[GatedCell]) -> Iterator[Finding]:
    """What each cell keeps the gate from passing with, those that fail first."""
    for cell in cells:
        if cell.verdict == "fail":
            yield Finding(
                kind="regression", message=f"{cell_text(cell)}{', which e2e hides' * _is_hidden(cell, cells)}"
            )
    for cell in cells:
        if cell.verdict == "inconclusive" and cell.interval is not None:
            yield Finding(kind="inconclusive", message=f"{cell_text(cell)}; {cell.reason}")
        if is_invalid(cell.num_excluded, cell.num_pairs + cell.num_excluded):
            what = f"{cell.num_excluded} of {cell.num_pairs + cell.num_excluded} pairs of {cell.stage} were excluded"
            message = f"{cell.variant} at {cell.case}: {what}, over a quarter; run it again on a quieter machine"
            yield Finding(kind="environment", message=message)
    yield from _too_few(cells)


def _too_few(cells: Sequence[GatedCell]) -> Iterator[Finding]:
    """One for all cells that lack the same."""
    reasons = Counter(cell.reason for cell in cells if cell.interval is None)
    for reason, number in reasons.items():
        which = "a latency" if len(cells) == 1 else f"{number} of {len(cells)} latencies that are judged together"
        remedy = "measure more, or judge fewer with --limit and --variant"
        yield Finding(kind="inconclusive", message=f"too few for {which}: {reason}; {remedy}")


def _is_hidden(cell: GatedCell, cells: Sequence[GatedCell]) -> bool:
    """Whether the whole is gated too, and does not fail."""
    whole = [each for each in cells if (each.case, each.variant, each.stage) == (cell.case, cell.variant, "e2e")]
    return any(each.verdict != "fail" for each in whole)


def cell_text(cell: GatedCell) -> str:
    """As ``fused at 1024x1024: dit +4.81% (+4.12 to +5.49), limit 3%``."""
    interval = f" ({interval_text(cell)})" if cell.interval else ""
    change = number_text(cell.change, cell.limit.unit)
    return f"{cell.variant} at {cell.case}: {cell.stage} {change}{interval}, limit {limit_text(cell.limit)}"


def number_text(value: float, unit: Unit) -> str:
    return f"{value:+.2f}%" if unit == "%" else f"{value:+.1f} ms"


def interval_text(cell: GatedCell) -> str:
    """In the unit of the limit; nothing where there is none."""
    if cell.interval is None:
        return ""
    digits = 2 if cell.limit.unit == "%" else 1
    return " to ".join(f"{end:+.{digits}f}" for end in cell.interval)


def limit_text(limit: Limit) -> str:
    """The number with its unit."""
    return str(limit).rpartition(":")[2]


def control_findings(
    gated: Sequence[Gated], runs: Sequence[Run], clock_mhz: float | None, where: str
) -> Iterator[Finding]:
    """Where the variant that was timed twice a round differs from itself, so that no change is to be believed."""
    places = dict.fromkeys((each.arms.case, each.stage) for each in gated)
    unit: Independent = "round" if any(each.arms.unit == "round" for each in gated) else "process"
    for (case, stage), change in broken_controls(runs, places, clock_mhz, unit=unit).items():
        assert change.ci_pct is not None
        twice = dict.fromkeys(run.variant for run in runs_of(TimedRun, runs) if run.is_control and run.case == case)
        what = f"{', '.join(twice)} differs from itself in {where} at {case}: {stage}"
        interval = f"{change.delta_pct:+.2f}% ({change.ci_pct[0]:+.2f} to {change.ci_pct[1]:+.2f})"
        yield Finding(kind="environment", message=f"{what} {interval}, so no change is to be believed")
