"""Tier 1 of the gate: what the pictures and latents of its runs disprove."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bagel_perf.analysis import pictures
from bagel_perf.analysis.drift import UPDATE, request_label
from bagel_perf.schema.expected import Expected
from bagel_perf.schema.gates import Finding
from bagel_perf.schema.requests import Request
from bagel_perf.schema.results import res_label
from bagel_perf.schema.runs import MIN_SPREAD, Run


def picture_findings(requests: Sequence[Request], variants: Sequence[str], runs: Sequence[Run]) -> Iterator[Finding]:
    """Each variant against itself and against the first; one that has no runs is nobody's."""
    for request in requests:
        for variant in variants:
            if pictures.at(runs, (request.width, request.height), variant):
                yield from _findings(request, variants[0], variant, runs)


def _findings(request: Request, reference: str, variant: str, runs: Sequence[Run]) -> Iterator[Finding]:
    size = (request.width, request.height)
    for problem in pictures.self_check(runs, size, variant):
        yield Finding(kind="picture", message=problem)
    for problem in _of_seeds(pictures.at(runs, size, variant), f"{variant} at {res_label(*size)}"):
        yield Finding(kind="picture", message=problem)
    if variant == reference:
        return
    check = pictures.identity_check(runs, size, reference, variant)
    if check is None or not check.identical:
        message = f"{variant} gives another picture than {reference} ({request_label(request)})"
        yield Finding(kind="picture", message=f"{message}; what rounds or draws otherwise there?")
    elif _latents(runs, size, variant) != _latents(runs, size, reference):
        message = f"{variant} gives other latents than {reference} ({request_label(request)})"
        yield Finding(kind="picture", message=f"{message}, though 8 bits of a picture hide it")


def _of_seeds(own: Sequence[Run], place: str) -> Iterator[str]:
    """Where runs of different seeds are alike: before the latents or behind them. Flat pictures are, by nature."""
    shown = [run for run in own if run.picture.spread >= MIN_SPREAD and run.picture.latents_sha256 is not None]
    by_seed = {run.seed: run.picture for run in shown}
    if len({picture.latents_sha256 for picture in by_seed.values()}) < len(by_seed):
        yield f"{place} gives the same latents for different seeds; does its noise come from its seed?"
    elif len({picture.pixels_sha256 for picture in by_seed.values()}) < len(by_seed):
        yield f"{place} gives the same picture for different latents; is it kept from another request?"


def _latents(runs: Sequence[Run], size: tuple[int, int], variant: str) -> set[tuple[int, str | None]]:
    return {(run.seed, run.picture.latents_sha256) for run in pictures.at(runs, size, variant)}


def hash_findings(expected: Expected, found: Expected) -> Iterator[Finding]:
    """The reference's pictures and latents that are others than those recorded on the same machine.

    Those of the other variants are held to the reference's.
    """
    theirs = {(run.request, run.variant): run for run in expected.runs}
    reference = found.runs[0].variant if found.runs else ""
    for run in (run for run in found.runs if run.variant == reference):
        before = theirs.get((run.request, run.variant))
        if before is not None and (before.pixels, before.latents) != (run.pixels, run.latents):
            what = "picture" if before.pixels != run.pixels else "latents"
            message = f"the {what} of {run.variant} ({run.request}) changed since the last record; {UPDATE}"
            yield Finding(kind="picture", message=message)
