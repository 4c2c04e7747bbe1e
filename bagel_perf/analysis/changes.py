"""From timed runs to changes: of candidates, of the first variant against itself, of the whole beyond its stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from bagel_perf.analysis import pictures
from bagel_perf.analysis.dropping import drop_reason, median_clock
from bagel_perf.analysis.judging import PairedSamples, change_state, gate_confidence, noise_floor_pct, reconcile
from bagel_perf.analysis.rounds import control_change, latency_by_round, paired
from bagel_perf.analysis.stats import CONFIDENCE, PairedChange, paired_change
from bagel_perf.schema.results import Delta, Dropped, Noise, Rest, res_label
from bagel_perf.schema.runs import Run
from bagel_perf.schema.slots import STAGES, Stage

Size = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The timed runs of a comparison; a variant whose picture is wrong has no change. ``clock_mhz`` is their median."""

    runs: Sequence[Run]
    sizes: Sequence[Size]
    trusted: AbstractSet[tuple[Size, str]]
    clock_mhz: float | None

    @classmethod
    def of(cls, runs: Sequence[Run], sizes: Sequence[Size], trusted: AbstractSet[tuple[Size, str]]) -> Changes:
        return cls(runs=runs, sizes=sizes, trusted=trusted, clock_mhz=median_clock(run.conditions for run in runs))

    def deltas(self, pairs: Sequence[tuple[str, str]]) -> Iterator[Delta]:
        """Of each pair of (reference, candidate) at each size."""
        for size in self.sizes:
            for reference, candidate in pairs:
                if {(size, reference), (size, candidate)} <= self.trusted:
                    for stage in STAGES:
                        yield from self._delta(size, stage, reference, candidate)

    def _delta(self, size: Size, stage: Stage, reference: str, candidate: str) -> Iterator[Delta]:
        a, b = (pictures.at(self.runs, size, name) for name in (reference, candidate))
        both = paired(a, b, stage, self.clock_mhz)
        if both is not None:
            change = paired_change(both.reference_ms, both.candidate_ms)
            # So many controls that one of them excludes 0 by chance would void a clean comparison.
            control = self._control(size, stage, gate_confidence(len(STAGES) * len(self.sizes)))
            yield Delta(
                res=res_label(*size),
                stage=stage,
                reference=reference,
                candidate=candidate,
                delta_pct=change.delta_pct,
                ci_pct=change.ci_pct,
                num_pairs=change.num_pairs,
                verdict=change_state(change, control, num_dropped=both.num_dropped),
                num_dropped=both.num_dropped,
            )

    def _control(self, size: Size, stage: Stage, confidence: float = CONFIDENCE) -> PairedChange | None:
        return control_change(self.runs, size, stage, self.clock_mhz, confidence)

    def noise(self) -> Iterator[Noise]:
        """Of each size and stage with a control."""
        for size in self.sizes:
            for stage in STAGES:
                control = self._control(size, stage)
                if control is not None:
                    yield Noise(
                        res=res_label(*size),
                        stage=stage,
                        delta_pct=control.delta_pct,
                        ci_pct=control.ci_pct,
                        floor_pct=noise_floor_pct(control),
                        num_pairs=control.num_pairs,
                    )

    def rests(self, reference: str, candidates: Sequence[str]) -> Iterator[Rest]:
        """Whether each candidate's stages account for its whole."""
        for size in self.sizes:
            for candidate in candidates:
                if {(size, reference), (size, candidate)} <= self.trusted:
                    yield from self._rest(size, reference, candidate)

    def _rest(self, size: Size, reference: str, candidate: str) -> Iterator[Rest]:
        arms = [pictures.at(self.runs, size, name) for name in (reference, candidate)]
        by_stage = [[latency_by_round(own, stage) for own in arms] for stage in STAGES]
        rounds = sorted(set.intersection(*(set(each) for stage in by_stage for each in stage)))
        if rounds:
            ar, dit, e2e = (
                PairedSamples(
                    reference_ms=tuple(before[number] for number in rounds),
                    candidate_ms=tuple(after[number] for number in rounds),
                )
                for before, after in by_stage
            )
            found = reconcile(ar, dit, e2e)
            yield Rest(
                res=res_label(*size),
                reference=reference,
                candidate=candidate,
                rest_ms=found.rest_ms,
                ci_ms=found.rest_interval_ms,
                num_pairs=found.num_pairs,
                state=found.state,
            )

    def dropped(self) -> Iterator[Dropped]:
        """Each timed run that does not count."""
        for run in self.runs:
            reason = drop_reason(run.conditions, self.clock_mhz)
            if reason is not None and run.round is not None:
                label = res_label(run.width, run.height)
                yield Dropped(res=label, round=run.round, variant=run.variant, reason=reason)
