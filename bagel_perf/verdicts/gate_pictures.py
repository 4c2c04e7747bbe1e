"""Tier 1 of the gate: what the pictures and latents of its runs disprove."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bagel_perf.records.bagel import Request, Task
from bagel_perf.records.expectations import Expected, ExpectedPicture
from bagel_perf.records.gates import Finding
from bagel_perf.records.runs import Run
from bagel_perf.verdicts import identity
from bagel_perf.verdicts.drift import UPDATE, request_label

PRINTS = ("contexts", "latents", "pixels")
MAX_OFF: dict[Task, tuple[float, float, float]] = {"i2i": (0.0025, 0.05, 0.004), "t2i": (0.0025, 0.015, 0.001)}
"""Of fingerprints of contexts, latents and pixels: root mean square of the difference, as a share of themselves, pixels
of white. Other kernels for CPUs, and other numbers of threads, are up to 0.0009, 0.022 and 0.0014 off (editing rounds
more, as it encodes a picture); another activation in the image encoder alone is 0.005 off in the contexts, a guidance
scale 2% larger 0.016 in the latents of text to image.
"""


def picture_findings(requests: Sequence[Request], variants: Sequence[str], runs: Sequence[Run]) -> Iterator[Finding]:
    """Each variant against itself and against the first; one that has no runs is nobody's."""
    for request in requests:
        for variant in variants:
            if identity.at(runs, request.case, variant):
                yield from _findings(request, variants[0], variant, runs)


def _findings(request: Request, reference: str, variant: str, runs: Sequence[Run]) -> Iterator[Finding]:
    case = request.case
    for problem in identity.self_check(runs, case, variant, is_bagel=True):
        yield Finding(kind="picture", message=problem)
    for problem in _of_seeds(identity.at(runs, case, variant), f"{variant} at {case}"):
        yield Finding(kind="picture", message=problem)
    if variant == reference:
        return
    check = identity.identity_check(runs, case, reference, variant, None)
    if check is None or not check.identical:
        message = f"{variant} gives another picture than {reference} ({request_label(request)})"
        yield Finding(kind="picture", message=f"{message}; what rounds or draws otherwise there?")
    elif not _latents(runs, case, variant) <= _latents(runs, case, reference):
        message = f"{variant} gives other latents than {reference} ({request_label(request)})"
        yield Finding(kind="picture", message=f"{message}, though 8 bits of a picture hide it")


def _of_seeds(own: Sequence[Run], place: str) -> Iterator[str]:
    """Where runs of different seeds are alike: before the latents or behind them. Flat pictures are, by nature."""
    shown = [run for run in own if not run.output.fault and run.output.latents_sha256 is not None]
    by_seed = {run.seed: run.output for run in shown}
    if len({picture.latents_sha256 for picture in by_seed.values()}) < len(by_seed):
        yield f"{place} gives the same latents for different seeds; does its noise come from its seed?"
    elif len({picture.sha256 for picture in by_seed.values()}) < len(by_seed):
        yield f"{place} gives the same picture for different latents; is it kept from another request?"


def _latents(runs: Sequence[Run], case: str, variant: str) -> set[tuple[int, str | None]]:
    return {(run.seed, run.output.latents_sha256) for run in identity.at(runs, case, variant)}


def hash_findings(expected: Expected, found: Expected) -> Iterator[Finding]:
    """The reference's pictures and latents that are others than those recorded on the same machine.

    Those of the other variants are held to the reference's.
    """
    theirs = {picture.request: picture for picture in expected.pictures}
    for ours in found.pictures:
        before = theirs.get(ours.request)
        if before is not None and (before.pixels, before.latents) != (ours.pixels, ours.latents):
            what = "picture" if before.pixels != ours.pixels else "latents"
            message = f"the {what} of the reference ({ours.request}) changed since the last record; {UPDATE}"
            yield Finding(kind="picture", message=message)


def print_findings(requests: Sequence[Request], expected: Expected, found: Expected) -> Iterator[Finding]:
    """The same by fingerprints, on whatever machine: what is further off than rounding goes."""
    theirs = {picture.request: picture for picture in expected.pictures}
    tasks = {request_label(request): request.task for request in requests}
    for ours in found.pictures:
        before = theirs.get(ours.request)
        if before is None:
            continue
        for what, off, limit in zip(PRINTS, _distances(before, ours), MAX_OFF[tasks[ours.request]], strict=True):
            if not off <= limit:
                message = (
                    f"the {what} of the reference ({ours.request}) are {off:.2%} off the last record's fingerprint"
                )
                yield Finding(kind="picture", message=f"{message}, and rounding is below {limit:.2%}; {UPDATE}")


def _distances(before: ExpectedPicture, after: ExpectedPicture) -> tuple[float, float, float]:
    return (
        _relative(before.contexts_print, after.contexts_print),
        _relative(before.latents_print, after.latents_print),
        _relative(before.pixels_print, after.pixels_print, 255.0),
    )


def _relative(before: Sequence[float], after: Sequence[float], scale: float | None = None) -> float:
    """Root mean square of the difference, as a share of that of ``before`` or of ``scale``; infinite where unlike."""
    if len(before) != len(after) or not before:
        return math.inf
    norm = math.sqrt(sum(value**2 for value in before) / len(before)) if scale is None else scale
    off = math.sqrt(sum((a - b) ** 2 for a, b in zip(before, after, strict=True)) / len(before))
    return off / norm if norm else math.inf
