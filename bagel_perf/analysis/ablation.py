"""What each slot saves alone and last, and whether the slots add up to what the rung saves.

All savings are differences within a round, so that a machine that speeds up or slows down between rounds does not
enter; each process has the median of its rounds, and each saving the interval of the median of the processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

from bagel_perf.analysis import pictures
from bagel_perf.analysis.dropping import drop_reason, median_clock
from bagel_perf.analysis.rounds import timed
from bagel_perf.analysis.stats import allowed_error, median_interval, process_medians
from bagel_perf.schema.ablations import Ablation, Saving, SlotMixtures, SlotSaving
from bagel_perf.schema.outlines import Outline
from bagel_perf.schema.runs import Run, TimedRun, runs_of

Ms = dict[tuple[int, int], float]
"""Milliseconds by process and round."""

Additivity = Literal["add up", "interact", "too noisy", "too few processes", "not timed"]

NEGLIGIBLE_REST = 0.05
"""Of what the rung saves: slots add up where all that the rest may be is no larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Latencies:
    """Of one stage in one case; a variant whose picture is wrong has none, and a run that does not count."""

    runs: Sequence[Run]
    case: str
    stage: str
    trusted: AbstractSet[tuple[str, str]]
    clock_mhz: float | None

    def of(self, variant: str | None) -> Ms:
        if variant is None or (self.case, variant) not in self.trusted:
            return {}
        own = timed(pictures.at(self.runs, self.case, variant), self.stage)
        return {
            (run.process, number): ms for number, ms, run in own if drop_reason(run.conditions, self.clock_mhz) is None
        }


def ablations_of(
    outline: Outline,
    runs: Sequence[Run],
    trusted: AbstractSet[tuple[str, str]],
    looks: Sequence[int] = (),
) -> Iterator[Ablation]:
    """Of each case and stage at which both ends of the ablation have latencies; none without mixtures."""
    if not outline.mixtures:
        return
    clock_mhz = median_clock(run.conditions for run in runs_of(TimedRun, runs))
    for case in outline.cases:
        for stage in outline.timed_stages:
            latencies = _Latencies(runs=runs, case=case, stage=stage, trusted=trusted, clock_mhz=clock_mhz)
            ablation = _ablation(outline, latencies, looks)
            if ablation is not None:
                yield ablation


def additivity(ablation: Ablation) -> Additivity:
    """Whether the slots save together what they save one by one; an interval that merely holds 0 does not show it."""
    rest = ablation.rest
    if rest is None:
        return "not timed"
    if rest.ci_ms is None:
        return "too few processes"
    if max(map(abs, rest.ci_ms)) <= NEGLIGIBLE_REST * abs(ablation.total.ms):
        return "add up"
    return "interact" if rest.is_shown else "too noisy"


def _ablation(outline: Outline, latencies: _Latencies, looks: Sequence[int]) -> Ablation | None:
    reference, variant = outline.named[0], outline.ablated
    before, after = latencies.of(reference), latencies.of(variant)
    total = _saving(_less(before, after), looks)
    if total is None:
        return None
    alone = {each.slot: _less(before, latencies.of(each.left_in)) for each in outline.mixtures if not each.swallowed}
    return Ablation(
        case=latencies.case,
        stage=latencies.stage,
        reference=reference,
        variant=variant,
        total=total,
        slots=tuple(_slot(each, before, after, latencies, looks) for each in outline.mixtures),
        rest=_rest(_less(before, after), list(alone.values()), looks),
    )


def _slot(mixtures: SlotMixtures, before: Ms, after: Ms, latencies: _Latencies, looks: Sequence[int]) -> SlotSaving:
    alone = _less(before, latencies.of(mixtures.left_in))
    last = _less(latencies.of(mixtures.left_out), after)
    return SlotSaving(
        slot=mixtures.slot,
        alone=_saving(alone, looks),
        last=_saving(last, looks),
        apart=_saving(_less(alone, last), looks),
        swallowed=mixtures.swallowed,
    )


def _rest(total: Ms, alone: Sequence[Ms], looks: Sequence[int]) -> Saving | None:
    """What the slots do not save one by one; None where one of them could not be timed alone."""
    for each in alone:
        total = _less(total, each)
    return _saving(total, looks)


def _less(a: Ms, b: Ms) -> Ms:
    """a - b in the rounds that have both."""
    return {key: a[key] - b[key] for key in sorted(a.keys() & b.keys())}


def _saving(ms: Ms, looks: Sequence[int]) -> Saving | None:
    if not ms:
        return None
    by_process = process_medians([*ms.values()], [process for process, _ in ms])
    median, interval = median_interval([*by_process.values()], 1 - allowed_error(len(by_process), looks))
    return Saving(ms=median, ci_ms=interval, num_rounds=len(ms), num_processes=len(by_process))
