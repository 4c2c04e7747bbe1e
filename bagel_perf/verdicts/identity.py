"""What the outputs of the runs prove: equal where they have to be, different where they have to be, not flat.

Finished results are asked the same, each by itself and two that should show the same; golden tensors by their worst
error, measured against its limit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bagel_perf.records.outlines import Tolerance
from bagel_perf.records.results import IdentityCheck, Result
from bagel_perf.records.runs import Run, TensorCheck


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
    """What is wrong with a variant's own outputs in one case, in words; empty when nothing is."""
    unsteady = unsteady_check(runs, case, variant, is_bagel=is_bagel)
    return (*unsteady, *empty_check(runs, case, variant))


def unsteady_check(runs: Sequence[Run], case: str, variant: str, *, is_bagel: bool) -> tuple[str, ...]:
    """Where a variant's own outputs differ that have to be equal, or the other way round, in words.

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
    return tuple(findings)


def empty_check(runs: Sequence[Run], case: str, variant: str) -> tuple[str, ...]:
    """Which of a variant's own outputs show nothing, in words: equal ones prove nothing."""
    own, place = at(runs, case, variant), f"{variant} at {case}"
    ranked = sorted((run.output for run in own), key=lambda output: output.spread or 0.0)
    faults = {fault.partition(" (")[0]: fault for output in reversed(ranked) if (fault := output.fault)}
    return tuple(f"{place} gives {fault}" for fault in faults.values())  # of flat pictures the flattest


def _outputs_of_seed(runs: Iterable[Run], seed: int) -> set[tuple[object, ...]]:
    return {run.output.identity for run in runs if run.seed == seed}


def tolerant_variants(result: Result) -> frozenset[str]:
    """Those that declare a tolerance."""
    return frozenset(each.name for each in result.variants if each.tolerance is not None)


def proves_nothing(result: Result) -> bool:
    """Whether outputs are refused for nothing else than that they show nothing; none then differs from another."""
    places = [(case, variant) for case in cases(result) for variant in variants(result)]
    is_bagel = result.outline.is_bagel
    return (
        result.verdict == "outputs differ"
        and all(check.is_ok for check in result.identity)
        and not any(unsteady_check(result.runs, *place, is_bagel=is_bagel) for place in places)
        and any(empty_check(result.runs, *place) for place in places)
    )


def wrong_pictures(result: Result) -> tuple[str, ...]:
    """What is wrong in words: as the result states it, else as its runs show it, whatever it states."""
    if result.verdict == "outputs differ":
        return result.findings or (result.error or result.verdict,)
    return tuple(dict.fromkeys(_disproved(result)))


def _disproved(result: Result) -> Iterator[str]:
    for check in result.identity:
        if not check.is_ok:
            yield f"{check.candidate} at {check.case} differs from {check.reference}"
    first, tolerant = result.named[0], tolerant_variants(result)
    for case in cases(result):
        for variant in variants(result):
            yield from self_check(result.runs, case, variant, is_bagel=result.outline.is_bagel)
            both = (at(result.runs, case, name) for name in (first, variant))
            if variant not in tolerant and are_different(*both):
                yield f"{variant} at {case} differs from {first}"


def other_pictures(reference: Result, candidate: Result, names: Iterable[str], where: str) -> Iterator[str]:
    """Of the named variants, what shows another picture in the candidate than in the reference, which is ``where``.

    Where a tolerance is declared, either is held to a picture of its own result and not to the other's.
    """
    tolerant = tolerant_variants(reference) | tolerant_variants(candidate)
    for case in cases(candidate):
        for variant in names:
            both = (at(each.runs, case, variant) for each in (reference, candidate))
            if variant not in tolerant and are_different(*both):
                yield f"{variant} at {case} gives another {candidate.outline.noun} than in {where}"


def are_different(reference: Sequence[Run], candidate: Sequence[Run]) -> bool:
    """Whether some seed that both have gave two pictures."""
    by_seed: defaultdict[int, set[tuple[object, ...]]] = defaultdict(set)
    shared = {run.seed for run in reference} & {run.seed for run in candidate}
    for run in (*reference, *candidate):
        by_seed[run.seed].add(run.output.identity)
    return any(len(by_seed[seed]) > 1 for seed in shared)


def cases(result: Result) -> tuple[str, ...]:
    """Names of the cases that ran, in order."""
    return tuple(dict.fromkeys(run.case for run in result.runs))


def variants(result: Result) -> tuple[str, ...]:
    """The reference and all that ran besides, mixtures of components among them."""
    return tuple(dict.fromkeys((result.named[0], *(run.variant for run in result.runs))))


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorGroup:
    """Tensors that play the same part, of which ``worst`` comes nearest to its limit or exceeds it most."""

    name: str
    num_tensors: int
    worst: TensorCheck
    ok: bool


def tensor_groups(checks: Iterable[TensorCheck]) -> tuple[TensorGroup, ...]:
    """The groups in the order of their first tensors."""
    members: dict[str, list[TensorCheck]] = {}
    for check in checks:
        members.setdefault(group_name(check.tensor), []).append(check)
    return tuple(
        TensorGroup(
            name=name,
            num_tensors=len(group),
            worst=max(group, key=_share_of_limit),
            ok=all(check.ok for check in group),
        )
        for name, group in members.items()
    )


def group_name(tensor: str) -> str:
    """The part a golden tensor plays: ``i2i.main.k.0`` is in the KV cache, ``t2i_global.v.3`` a velocity ``v``."""
    parts = [part for part in tensor.split(".") if not part.isdigit()]
    if len(parts) == 3:
        return "kv cache" if parts[2] in ("k", "v") else parts[1]
    return parts[-1] if parts else tensor


def _share_of_limit(check: TensorCheck) -> float:
    if math.isnan(check.error):
        return math.inf
    if check.limit == 0:
        return math.inf if check.error > 0 else 0.0
    return check.error / check.limit
