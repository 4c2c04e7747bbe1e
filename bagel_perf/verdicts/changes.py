"""From timed runs to changes: of candidates, of the first variant against itself, of the whole against its stages.

What each component saves alone and last, and whether they add up, are differences within a round, so that a machine
that speeds up or slows down between rounds does not enter; each process has the median of its rounds, and each saving
the interval of the median of the processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Literal

from bagel_perf.records.ablations import Ablation, ComponentMixtures, ComponentSaving, Saving
from bagel_perf.records.outlines import Outline
from bagel_perf.records.results import Delta, Excluded, Noise, Unit
from bagel_perf.records.runs import Run, TimedRun, runs_of
from bagel_perf.verdicts import identity, joint
from bagel_perf.verdicts.comparability import exclusion_reason, is_invalid, median_clock
from bagel_perf.verdicts.judging import (
    ChangeState,
    PairedSamples,
    change_state,
    noise_floor_pct,
    paired,
    side_of,
    timed,
)
from bagel_perf.verdicts.statistics import PairedChange, allowed_error, median_interval, paired_change, process_medians

Place = tuple[str, str]
"""A case, and a stage."""


def control_samples(runs: Iterable[Run], place: Place, median_clock: float | None) -> PairedSamples | None:
    """The variant that was timed twice a round against itself at one place, None where none was."""
    case, stage = place
    own = [run for run in runs_of(TimedRun, runs) if run.case == case]
    twice = {run.variant for run in own if run.is_control}
    own = [run for run in own if run.variant in twice]
    return paired(own, own, stage, median_clock, control=True)


def broken_controls(
    runs: Sequence[Run],
    places: Iterable[Place],
    median_clock: float | None,
    error: float = joint.ALPHA,
    unit: Unit = "process",
) -> dict[Place, PairedChange]:
    """Where the variant differs from itself, judged together, so that no change there is to be believed.

    There is something then that the arms of a round do not share, as state that one run leaves to the next.
    """
    found = {place: control_samples(runs, place, median_clock) for place in places}
    controls = {place: by_unit(both, unit) for place, both in found.items() if both is not None}
    shown = joint.shown({place: both.log_ratios for place, both in controls.items()}, error)
    changes = {place: paired_change(both.log_ratios, 1 - error) for place, both in controls.items() if place in shown}
    return {place: change for place, change in changes.items() if change.ci_pct is not None and side_of(change.ci_pct)}


def by_unit(both: PairedSamples, unit: Unit) -> PairedSamples:
    """The samples as if each round had been a process, unless processes are what is independent."""
    return both if unit == "process" else replace(both, processes=tuple(range(both.num_pairs)))


Change = tuple[Place, tuple[str, str]]
"""A place, and (reference, candidate)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The timed runs of a comparison; a variant whose output is wrong has no change. ``clock_mhz`` is their median.

    ``looks`` are the numbers of processes after which the run would have stopped. With a ``unit`` of rounds every round
    counts for itself; with one of pairs, as older results had it, every verdict is that of an interval alone, too.
    """

    runs: Sequence[Run]
    cases: Sequence[str]
    stages: Sequence[str]
    trusted: AbstractSet[tuple[str, str]]
    clock_mhz: float | None
    looks: tuple[int, ...] = ()
    unit: Unit = "process"

    @classmethod
    def of(
        cls,
        runs: Sequence[Run],
        cases: Sequence[str],
        stages: Sequence[str],
        trusted: AbstractSet[tuple[str, str]],
        looks: tuple[int, ...] = (),
        unit: Unit = "process",
    ) -> Changes:
        clock_mhz = median_clock(run.conditions for run in runs_of(TimedRun, runs))
        return cls(runs=runs, cases=cases, stages=stages, trusted=trusted, clock_mhz=clock_mhz, looks=looks, unit=unit)

    def deltas(self, pairs: Sequence[tuple[str, str]]) -> Iterator[Delta]:
        """Of each pair of (reference, candidate) in each case; their verdicts hold together."""
        found = self._found(pairs)
        changes = {key: self._change(both) for key, both in found.items()}
        error = min((self._error(each) for each in changes.values()), default=joint.ALPHA)
        shown = joint.shown({key: both.log_ratios for key, both in found.items()}, error)
        unit: Unit = "round" if self.unit == "round" else "process"
        broken = broken_controls(self.runs, [*self._places()], self.clock_mhz, error, unit)
        for key, both in found.items():
            change = changes[key]
            is_void = key[0] in broken or is_invalid(both.num_excluded, both.num_pairs + both.num_excluded)
            is_shown = self.unit == "pair" or key in shown
            yield _delta(key, both, change, change_state(change, is_shown=is_shown, is_void=is_void))

    def ratios(self, pairs: Sequence[tuple[str, str]]) -> dict[Change, dict[int, float]]:
        """Log-ratios by process of each pair of (reference, candidate) at each place."""
        return {key: both.log_ratios for key, both in self._found(pairs).items()}

    def _found(self, pairs: Sequence[tuple[str, str]]) -> dict[Change, PairedSamples]:
        return {
            ((case, stage), names): both
            for case in self.cases
            for names in pairs
            if {(case, name) for name in names} <= self.trusted
            for stage in self.stages
            if (both := self._samples((case, stage), *names)) is not None
        }

    def _places(self) -> Iterator[Place]:
        return ((case, stage) for case in self.cases for stage in self.stages)

    def _samples(self, place: Place, reference: str, candidate: str) -> PairedSamples | None:
        case, stage = place
        before, after = (identity.at(self.runs, case, name) for name in (reference, candidate))
        return self._by_unit(paired(before, after, stage, self.clock_mhz))

    def _by_unit(self, both: PairedSamples | None) -> PairedSamples | None:
        return None if both is None else by_unit(both, self.unit)

    def _change(self, both: PairedSamples) -> PairedChange:
        ratios = both.log_ratios
        return paired_change(ratios, 1 - allowed_error(len(ratios), self.looks))

    def _error(self, change: PairedChange) -> float:
        return allowed_error(change.num_processes, self.looks)

    def noise(self) -> Iterator[Noise]:
        """Of each case and stage with a control."""
        for case, stage in self._places():
            both = self._by_unit(control_samples(self.runs, (case, stage), self.clock_mhz))
            if both is not None:
                control = self._change(both)
                yield Noise(
                    case=case,
                    stage=stage,
                    delta_pct=control.delta_pct,
                    ci_pct=control.ci_pct,
                    floor_pct=noise_floor_pct(control),
                    num_pairs=both.num_pairs,
                    num_processes=control.num_processes,
                )

    def excluded(self) -> Iterator[Excluded]:
        """Each timed run that does not count."""
        for run in runs_of(TimedRun, self.runs):
            reason = exclusion_reason(run.conditions, self.clock_mhz)
            if reason is not None:
                yield Excluded(case=run.case, round=run.round, variant=run.variant, reason=reason)


def _delta(key: Change, both: PairedSamples, change: PairedChange, verdict: ChangeState) -> Delta:
    (case, stage), (reference, candidate) = key
    return Delta(
        case=case,
        stage=stage,
        reference=reference,
        candidate=candidate,
        delta_pct=change.delta_pct,
        ci_pct=change.ci_pct,
        num_pairs=both.num_pairs,
        num_processes=change.num_processes,
        verdict=verdict,
        num_excluded=both.num_excluded,
    )


Ms = dict[tuple[int, int], float]
"""Milliseconds by process and round."""

Additivity = Literal["add up", "interact", "too noisy", "too few processes", "not timed"]

NEGLIGIBLE_REST = 0.05
"""Of what the variant saves: components add up where all that the rest may be is no larger."""


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
        own = timed(identity.at(self.runs, self.case, variant), self.stage)
        return {
            (run.process, number): ms
            for number, ms, run in own
            if exclusion_reason(run.conditions, self.clock_mhz) is None
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
    """Whether components save together what they save one by one; an interval that just holds 0 does not show it."""
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
    alone = {
        each.component: _less(before, latencies.of(each.left_in)) for each in outline.mixtures if not each.swallowed
    }
    return Ablation(
        case=latencies.case,
        stage=latencies.stage,
        reference=reference,
        variant=variant,
        total=total,
        components=tuple(_component(each, before, after, latencies, looks) for each in outline.mixtures),
        rest=_rest(_less(before, after), list(alone.values()), looks),
    )


def _component(
    mixtures: ComponentMixtures, before: Ms, after: Ms, latencies: _Latencies, looks: Sequence[int]
) -> ComponentSaving:
    alone = _less(before, latencies.of(mixtures.left_in))
    last = _less(latencies.of(mixtures.left_out), after)
    return ComponentSaving(
        component=mixtures.component,
        alone=_saving(alone, looks),
        last=_saving(last, looks),
        apart=_saving(_less(alone, last), looks),
        swallowed=mixtures.swallowed,
    )


def _rest(total: Ms, alone: Sequence[Ms], looks: Sequence[int]) -> Saving | None:
    """What the components do not save one by one; None where one of them could not be timed alone."""
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
