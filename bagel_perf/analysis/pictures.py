"""What the outputs of the runs prove: equal where they have to be, different where they have to be, not flat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bagel_perf.schema.results import IdentityCheck
from bagel_perf.schema.runs import Run
from bagel_perf.schema.tolerances import Tolerance


def at(runs: Iterable[Run], case: str, variant: str) -> tuple[Run, ...]:
    """The runs of a variant in one case, in order."""
    return tuple(run for run in runs if run.case == case and run.variant == variant)


def identity_check(
    runs: Sequence[Run], case: str, reference: str, candidate: str, tolerance: Tolerance | None
) -> IdentityCheck | None:
    """Compares every run of the candidate with every run of the reference of the same seed; None if there are none."""
    own = at(runs, case, reference)
    seeds = {run.seed for run in own}
    compared = [run for run in at(runs, case, candidate) if run.seed in seeds]
    if not compared:
        return None
    both = [*own, *compared]
    return IdentityCheck(
        case=case,
        reference=reference,
        candidate=candidate,
        identical=all(len(_outputs_of_seed(both, seed)) == 1 for seed in {run.seed for run in compared}),
        num_runs=len(compared),
        tolerance=tolerance,
        distance=None if tolerance is None else _worst(compared, tolerance),
        num_differing=max((run.num_differing for run in compared if run.num_differing is not None), default=None),
    )


def _worst(compared: Sequence[Run], tolerance: Tolerance) -> float | None:
    """In the tolerance's unit; a run that was not held to the reference is as far away as can be."""
    raw = (tolerance.farthest if run.distance is None else run.distance for run in compared)
    return tolerance.reading(max(raw, default=0.0))


def self_check(runs: Sequence[Run], case: str, variant: str, *, is_bagel: bool) -> tuple[str, ...]:
    """What is wrong with a variant's own outputs in one case, in words; empty when nothing is.

    Another seed has to give another picture of BAGEL's; somebody's own loop may draw nothing.
    """
    own = at(runs, case, variant)
    place, noun = f"{variant} at {case}", "picture" if is_bagel else "output"
    seeds = sorted({run.seed for run in own})
    findings = []
    if any(len(_outputs_of_seed(own, seed)) > 1 for seed in seeds):
        findings.append(f"{place} does not repeat its own {noun}")
    if is_bagel and len({run.output.sha256 for run in own}) < len(seeds):
        findings.append(f"{place} gives the same {noun} for different seeds")
    ranked = sorted((run.output for run in own), key=lambda output: output.spread or 0.0)
    faults = {fault.partition(" (")[0]: fault for output in reversed(ranked) if (fault := output.fault)}
    findings += [f"{place} gives {fault}" for fault in faults.values()]  # of flat pictures the flattest
    return tuple(findings)


def _outputs_of_seed(runs: Iterable[Run], seed: int) -> set[tuple[object, ...]]:
    return {run.output.identity for run in runs if run.seed == seed}
