"""From timed runs to changes: of candidates, of the first variant against itself, of the whole against its stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from bagel_perf.analysis import joint, pictures
from bagel_perf.analysis.controls import Place, broken_controls, control_samples
from bagel_perf.analysis.dropping import drop_reason, is_invalid, median_clock
from bagel_perf.analysis.judging import ChangeState, PairedSamples, change_state, noise_floor_pct
from bagel_perf.analysis.rounds import paired
from bagel_perf.analysis.stats import PairedChange, allowed_error, paired_change
from bagel_perf.schema.results import Delta, Dropped, Noise, Unit
from bagel_perf.schema.runs import Run, TimedRun, runs_of

Change = tuple[Place, tuple[str, str]]
"""A place, and (reference, candidate)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The timed runs of a comparison; a variant whose output is wrong has no change. ``clock_mhz`` is their median.

    ``looks`` are the numbers of processes after which the run would have stopped. With a ``unit`` of pairs, as older
    results had it, every round counts for itself and every verdict is that of an interval alone.
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
        broken = broken_controls(self.runs, [*self._places()], self.clock_mhz, error)
        for key, both in found.items():
            change = changes[key]
            is_void = key[0] in broken or is_invalid(both.num_dropped, both.num_pairs + both.num_dropped)
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
        before, after = (pictures.at(self.runs, case, name) for name in (reference, candidate))
        return self._by_unit(paired(before, after, stage, self.clock_mhz))

    def _by_unit(self, both: PairedSamples | None) -> PairedSamples | None:
        if both is None or self.unit == "process":
            return both
        return replace(both, processes=tuple(range(both.num_pairs)))

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

    def dropped(self) -> Iterator[Dropped]:
        """Each timed run that does not count."""
        for run in runs_of(TimedRun, self.runs):
            reason = drop_reason(run.conditions, self.clock_mhz)
            if reason is not None:
                yield Dropped(case=run.case, round=run.round, variant=run.variant, reason=reason)


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
        num_dropped=both.num_dropped,
    )
