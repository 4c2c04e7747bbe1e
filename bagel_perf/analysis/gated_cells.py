"""From the runs of two arms to latencies held to their limits, all at a confidence that holds for all of them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bagel_perf.analysis.dropping import drop_reason, is_invalid
from bagel_perf.analysis.judging import Judgement, gate_confidence, judge
from bagel_perf.analysis.rounds import control_change, latency_by_round, paired
from bagel_perf.analysis.unpaired import judge_unpaired
from bagel_perf.schema.gates import Finding, GatedCell
from bagel_perf.schema.limits import Limit, Unit, limit_of
from bagel_perf.schema.results import res_label
from bagel_perf.schema.runs import Run
from bagel_perf.schema.slots import STAGES, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """Runs of the reference and of the candidate at one size; ``clocks_mhz`` are the medians that theirs are held to.

    Only runs that were measured in the same session are paired.
    """

    variant: str
    size: tuple[int, int]
    reference: Sequence[Run]
    candidate: Sequence[Run]
    clocks_mhz: tuple[float | None, float | None]
    is_paired: bool

    @property
    def res(self) -> int | str:
        return res_label(*self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """A stage of two arms and the limit that holds for it, which names its resolution."""

    arms: Arms
    stage: Stage
    limit: Limit

    def __str__(self) -> str:
        return f"{self.arms.variant} at {self.arms.res}: {self.stage}"


def gated_of(arms: Sequence[Arms], limits: Sequence[Limit]) -> tuple[Gated, ...]:
    """All stages that have a limit."""
    return tuple(
        Gated(arms=each, stage=stage, limit=replace(limit, res=each.res))
        for each in arms
        for stage in STAGES
        if (limit := limit_of(limits, each.res, stage)) is not None
    )


def judge_gated(gated: Sequence[Gated]) -> tuple[GatedCell, ...]:
    """Those that have samples, each with Bonferroni's share of what the whole gate may err."""
    confidence = gate_confidence(len(gated))
    found = (
        _judge_pairs(each, confidence) if each.arms.is_paired else _judge_apart(each, confidence) for each in gated
    )
    return tuple(cell for cell in found if cell is not None)


def _judge_pairs(gated: Gated, confidence: float) -> GatedCell | None:
    arms = gated.arms
    samples = paired(arms.reference, arms.candidate, gated.stage, arms.clocks_mhz[0])
    if samples is None:
        return None
    judgement = judge(samples, gated.limit, confidence=confidence)
    return _cell(gated, judgement, samples.reference_ms, samples.candidate_ms, samples.num_dropped)


def _judge_apart(gated: Gated, confidence: float) -> GatedCell | None:
    arms = gated.arms
    sides = zip((arms.reference, arms.candidate), arms.clocks_mhz, strict=True)
    (before_ms, dropped), (after_ms, more) = (_counting(own, gated.stage, clock) for own, clock in sides)
    if not before_ms or not after_ms:
        return None
    judgement = judge_unpaired(before_ms, after_ms, gated.limit, confidence=confidence)
    return _cell(gated, judgement, before_ms, after_ms, max(dropped, more))


def _counting(own: Sequence[Run], stage: Stage, clock_mhz: float | None) -> tuple[tuple[float, ...], int]:
    """Latencies in ms of the runs that count, and the number of those that do not."""
    kept = [run for run in own if drop_reason(run.conditions, clock_mhz) is None]
    latencies = tuple(latency_by_round(kept, stage).values())
    return latencies, len(latency_by_round(own, stage)) - len(latencies)


def _cell(
    gated: Gated, judgement: Judgement, before_ms: Sequence[float], after_ms: Sequence[float], num_dropped: int
) -> GatedCell:
    return GatedCell(
        res=gated.arms.res,
        stage=gated.stage,
        variant=gated.arms.variant,
        before_ms=statistics.median(before_ms),
        after_ms=statistics.median(after_ms),
        change=judgement.estimate,
        interval=judgement.interval,
        limit=gated.limit,
        verdict=judgement.state,
        reason=judgement.reason,
        num_pairs=judgement.num_pairs,
        num_dropped=num_dropped,
        confidence=judgement.confidence,
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
        if is_invalid(cell.num_dropped, cell.num_pairs + cell.num_dropped):
            what = f"{cell.num_dropped} of {cell.num_pairs + cell.num_dropped} pairs of {cell.stage} were dropped"
            message = f"{cell.variant} at {cell.res}: {what}, over a quarter; run it again on a quieter machine"
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
    whole = [each for each in cells if (each.res, each.variant, each.stage) == (cell.res, cell.variant, "e2e")]
    return any(each.verdict != "fail" for each in whole)


def cell_text(cell: GatedCell) -> str:
    """As ``fused at 1024: dit +4.81% (+4.12 to +5.49), limit 3%``."""
    interval = f" ({interval_text(cell)})" if cell.interval else ""
    change = number_text(cell.change, cell.limit.unit)
    return f"{cell.variant} at {cell.res}: {cell.stage} {change}{interval}, limit {limit_text(cell.limit)}"


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
    places = dict.fromkeys((each.arms.size, each.stage) for each in gated)
    confidence = gate_confidence(len(places))
    for size, stage in places:
        change = control_change(runs, size, stage, clock_mhz, confidence)
        if change is not None and change.ci_pct is not None and not change.ci_pct[0] <= 0 <= change.ci_pct[1]:
            twice = dict.fromkeys(run.variant for run in runs if run.again and (run.width, run.height) == size)
            what = f"{', '.join(twice)} differs from itself in {where} at {res_label(*size)}: {stage}"
            interval = f"{change.delta_pct:+.2f}% ({change.ci_pct[0]:+.2f} to {change.ci_pct[1]:+.2f})"
            yield Finding(kind="environment", message=f"{what} {interval}, so no change is to be believed")
