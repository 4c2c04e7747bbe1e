"""What each slot saves alone and last, and whether the slots add up to what the rung saves.

All savings are differences within a round, so that a machine that speeds up or slows down between rounds does not
enter, and each has the interval of a median.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

from bagel_perf.analysis import pictures
from bagel_perf.analysis.rounds import latency_by_round
from bagel_perf.analysis.stats import median_interval
from bagel_perf.schema.ablations import Ablation, Saving, SlotMixtures, SlotSaving
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.results import res_label
from bagel_perf.schema.runs import Run
from bagel_perf.schema.slots import STAGES, Stage

Ms = dict[int, float]
"""Milliseconds by round."""

Additivity = Literal["add up", "interact", "too noisy", "too few rounds", "not timed"]

NEGLIGIBLE_REST = 0.05
"""Of what the rung saves: slots add up where all that the rest may be is no larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Latencies:
    """Of one stage at one resolution; a variant whose picture is wrong has none."""

    runs: Sequence[Run]
    size: tuple[int, int]
    stage: Stage
    trusted: AbstractSet[tuple[tuple[int, int], str]]

    def of(self, variant: str | None) -> Ms:
        if variant is None or (self.size, variant) not in self.trusted:
            return {}
        return latency_by_round(pictures.at(self.runs, self.size, variant), self.stage)


def ablations_of(
    plan: Plan, runs: Sequence[Run], trusted: AbstractSet[tuple[tuple[int, int], str]]
) -> Iterator[Ablation]:
    """Of each resolution and stage at which both ends of the ablation have latencies; none unless the plan asks."""
    if not plan.ablate:
        return
    for request in plan.requests:
        size = (request.width, request.height)
        for stage in STAGES:
            ablation = _ablation(plan, _Latencies(runs=runs, size=size, stage=stage, trusted=trusted))
            if ablation is not None:
                yield ablation


def additivity(ablation: Ablation) -> Additivity:
    """Whether the slots save together what they save one by one; an interval that merely holds 0 does not show it."""
    rest = ablation.rest
    if rest is None:
        return "not timed"
    if rest.ci_ms is None:
        return "too few rounds"
    if max(map(abs, rest.ci_ms)) <= NEGLIGIBLE_REST * abs(ablation.total.ms):
        return "add up"
    return "interact" if rest.is_shown else "too noisy"


def _ablation(plan: Plan, latencies: _Latencies) -> Ablation | None:
    reference, variant = plan.variants[0], plan.ablated
    before, after = latencies.of(reference), latencies.of(variant)
    total = _saving(_less(before, after))
    if total is None:
        return None
    alone = {each.slot: _less(before, latencies.of(each.left_in)) for each in plan.mixtures if not each.swallowed}
    return Ablation(
        res=res_label(*latencies.size),
        stage=latencies.stage,
        reference=reference,
        variant=variant,
        total=total,
        slots=tuple(_slot(each, before, after, latencies) for each in plan.mixtures),
        rest=_rest(_less(before, after), list(alone.values())),
    )


def _slot(mixtures: SlotMixtures, before: Ms, after: Ms, latencies: _Latencies) -> SlotSaving:
    alone = _less(before, latencies.of(mixtures.left_in))
    last = _less(latencies.of(mixtures.left_out), after)
    return SlotSaving(
        slot=mixtures.slot,
        alone=_saving(alone),
        last=_saving(last),
        apart=_saving(_less(alone, last)),
        swallowed=mixtures.swallowed,
    )


def _rest(total: Ms, alone: Sequence[Ms]) -> Saving | None:
    """What the slots do not save one by one; None where one of them could not be timed alone."""
    for each in alone:
        total = _less(total, each)
    return _saving(total)


def _less(a: Ms, b: Ms) -> Ms:
    """a - b in the rounds that have both."""
    return {number: a[number] - b[number] for number in sorted(a.keys() & b.keys())}


def _saving(ms: Ms) -> Saving | None:
    if not ms:
        return None
    median, interval = median_interval([*ms.values()])
    return Saving(ms=median, ci_ms=interval, num_rounds=len(ms))
