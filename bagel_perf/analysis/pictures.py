"""What the pictures of the runs prove: equal where they have to be, different where they have to be, not flat."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.results import IdentityCheck, res_label
from bagel_perf.schema.runs import MIN_SPREAD, Picture, Run
from bagel_perf.schema.variants import parse_variant

MAX_LEVEL = 255.0


def at(runs: Iterable[Run], size: tuple[int, int], variant: str) -> tuple[Run, ...]:
    """The runs of a variant at one (width, height), in order."""
    return tuple(run for run in runs if (run.width, run.height) == size and run.variant == variant)


def identity_check(runs: Sequence[Run], size: tuple[int, int], reference: str, candidate: str) -> IdentityCheck | None:
    """Compares every run of the candidate with every run of the reference of the same seed; None if there are none."""
    seeds = {run.seed for run in at(runs, size, reference)}
    compared = [run for run in at(runs, size, candidate) if run.seed in seeds]
    if not compared:
        return None
    both = [*at(runs, size, reference), *compared]
    limits = [limit for name in (reference, candidate) if (limit := _min_psnr_db(name)) is not None]
    return IdentityCheck(
        res=res_label(*size),
        reference=reference,
        candidate=candidate,
        identical=all(len(_pictures_of_seed(both, seed)) == 1 for seed in {run.seed for run in compared}),
        num_runs=len(compared),
        min_psnr_db=min(limits, default=None),
        psnr_db=_worst_psnr_db(compared) if limits else None,
        differing_pixels=max(
            (run.differing_pixels for run in compared if run.differing_pixels is not None), default=None
        ),
    )


def _min_psnr_db(name: str) -> float | None:
    """The tolerance that a variant declares; a name that this version does not know declares none."""
    try:
        return parse_variant(name).min_psnr_db
    except UsageError:
        return None


def _worst_psnr_db(compared: Sequence[Run]) -> float | None:
    """In dB; a run that was not held to the reference counts as black against white, which is 0 dB."""
    worst = max((run.mse if run.mse is not None else MAX_LEVEL**2 for run in compared), default=0.0)
    return 10 * math.log10(MAX_LEVEL**2 / worst) if worst else None


def self_check(runs: Sequence[Run], size: tuple[int, int], variant: str) -> tuple[str, ...]:
    """What is wrong with a variant's own pictures at one resolution, in words; empty when nothing is."""
    own = at(runs, size, variant)
    place = f"{variant} at {res_label(*size)}"
    seeds = sorted({run.seed for run in own})
    findings = []
    if any(len(_pictures_of_seed(own, seed)) > 1 for seed in seeds):
        findings.append(f"{place} does not repeat its own picture")
    num_distinct = len({run.picture.pixels_sha256 for run in own})
    if num_distinct < len(seeds):
        findings.append(f"{place} gives the same picture for different seeds")
    spreads = [run.picture.spread for run in own]
    if not all(spread >= MIN_SPREAD for spread in spreads):
        findings.append(f"{place} gives a flat picture (spread {min(spreads):.2g} grey levels)")
    return tuple(findings)


def _pictures_of_seed(runs: Iterable[Run], seed: int) -> set[tuple[str, str, int, int]]:
    return {_identity(run.picture) for run in runs if run.seed == seed}


def _identity(picture: Picture) -> tuple[str, str, int, int]:
    return picture.md5, picture.pixels_sha256, picture.width, picture.height
