"""The control of a comparison: the first variant timed twice a round, against itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bagel_perf.analysis import joint
from bagel_perf.analysis.judging import PairedSamples, side_of
from bagel_perf.analysis.rounds import paired
from bagel_perf.analysis.stats import PairedChange, paired_change
from bagel_perf.schema.runs import Run, TimedRun, runs_of

Place = tuple[str, str]
"""A case, and a stage."""


def control_samples(runs: Iterable[Run], place: Place, median_clock: float | None) -> PairedSamples | None:
    """The variant that was timed twice a round against itself at one place, None where none was."""
    case, stage = place
    own = [run for run in runs_of(TimedRun, runs) if run.case == case]
    twice = {run.variant for run in own if run.again}
    own = [run for run in own if run.variant in twice]
    return paired(own, own, stage, median_clock, control=True)


def broken_controls(
    runs: Sequence[Run], places: Iterable[Place], median_clock: float | None, error: float = joint.ALPHA
) -> dict[Place, PairedChange]:
    """Where the variant differs from itself, judged together, so that no change there is to be believed.

    There is something then that the arms of a round do not share, as state that one run leaves to the next.
    """
    controls = {place: both for place in places if (both := control_samples(runs, place, median_clock)) is not None}
    shown = joint.shown({place: both.log_ratios for place, both in controls.items()}, error)
    changes = {place: paired_change(both.log_ratios, 1 - error) for place, both in controls.items() if place in shown}
    return {place: change for place, change in changes.items() if change.ci_pct is not None and side_of(change.ci_pct)}
