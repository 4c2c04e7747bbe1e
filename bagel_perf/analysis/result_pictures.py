"""What the pictures in finished results disprove: each result by itself, and two that should show the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from bagel_perf.analysis import pictures
from bagel_perf.schema.results import Result
from bagel_perf.schema.runs import Run


def tolerant_variants(result: Result) -> frozenset[str]:
    """Those that declare a tolerance."""
    return frozenset(each.name for each in result.variants if each.tolerance is not None)


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
            yield from pictures.self_check(result.runs, case, variant, is_bagel=result.outline.is_bagel)
            both = (pictures.at(result.runs, case, name) for name in (first, variant))
            if variant not in tolerant and are_different(*both):
                yield f"{variant} at {case} differs from {first}"


def other_pictures(reference: Result, candidate: Result, names: Iterable[str], where: str) -> Iterator[str]:
    """Of the named variants, what shows another picture in the candidate than in the reference, which is ``where``.

    Where a tolerance is declared, either is held to a picture of its own result and not to the other's.
    """
    tolerant = tolerant_variants(reference) | tolerant_variants(candidate)
    for case in cases(candidate):
        for variant in names:
            both = (pictures.at(each.runs, case, variant) for each in (reference, candidate))
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
    """The reference and all that ran besides, mixtures of slots among them."""
    return tuple(dict.fromkeys((result.named[0], *(run.variant for run in result.runs))))
