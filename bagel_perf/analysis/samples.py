"""Whether the runs of a result can be those of one comparison: nothing twice, nothing that was not asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.results import Result
from bagel_perf.schema.runs import Picture, Run

MIN_MS, MAX_MS = 1e-6, 1e10
"""A nanosecond, and four months: no clock gives less, and nobody waits longer."""
MAX_NAME = 255
"""Bytes of a file's name."""


def check_samples(result: Result) -> None:
    """Raises ``UsageError`` with the first run that cannot be."""
    asked = [(request.width, request.height) for request in result.requests]
    for name, each in (("variants", result.variants), ("requests", asked)):
        if len(set(each)) != len(each):
            raise UsageError(f"{name} name one twice")
    sizes = set(asked)
    seen: set[tuple[object, ...]] = set()
    for number, run in enumerate(result.runs):
        for problem in (*_problems(run, sizes, result.pairs), *_again(run, seen)):
            raise UsageError(f"runs[{number}] {problem}")
    for place, path in _paths(result):
        if path is not None and not is_file_name(path):
            allowed = "the name of a file beside the result"
            raise UsageError(f"{place} leads elsewhere", value=path[:80], allowed=allowed)
    _check_processes(result)


def is_file_name(path: str) -> bool:
    """Whether a path names a file in the very folder that it is relative to."""
    is_plain = path == PurePosixPath(path).name and path not in ("", ".", "..")
    return is_plain and path.isprintable() and "\\" not in path and len(path.encode(errors="replace")) <= MAX_NAME


def _problems(run: Run, sizes: set[tuple[int, int]], pairs: int) -> Iterator[str]:
    if (run.width, run.height) not in sizes:
        yield f"is {run.width}x{run.height}, of no request"
    if (run.picture.width, run.picture.height) != (run.width, run.height):
        yield f"is {run.width}x{run.height}, its picture {run.picture.width}x{run.picture.height}"
    if run.round is not None and not 0 <= run.round < pairs:
        yield f"is of round {run.round + 1}, and there were {pairs}"
    for each in run.measurements:
        if each.latency_ms is not None and not MIN_MS <= each.latency_ms <= MAX_MS:
            yield f"has a latency of {each.stage} of {each.latency_ms:g} ms; {MIN_MS:g} to {MAX_MS:g} can be"
    counted = [each.host_syncs for each in run.measurements if each.host_syncs is not None]
    if run.sites and sum(site.count for site in run.sites) != sum(counted):
        yield f"waits {sum(site.count for site in run.sites)} times at its sites, and {sum(counted)} times in all"


def _again(run: Run, seen: set[tuple[object, ...]]) -> Iterator[str]:
    """A stage that was timed twice in a round: only one of the two would count."""
    if run.purpose == "timed":
        for each in run.measurements:
            place = run.width, run.height, run.variant, run.round, run.again, each.stage
            if place in seen:
                yield f"times {each.stage} of {run.variant} a second time in round {(run.round or 0) + 1}"
            seen.add(place)


def _paths(result: Result) -> Iterator[tuple[str, str | None]]:
    for name, pictures in (("runs", _pictures(result)), ("inputs", result.inputs)):
        yield from ((f"path of {name}[{number}]", picture.path) for number, picture in enumerate(pictures))
    for number, image in enumerate(result.images):
        yield f"images[{number}].path", image.path
        yield f"images[{number}].difference_path", image.difference_path


def _pictures(result: Result) -> Iterator[Picture]:
    return (run.picture for run in result.runs)


def _check_processes(result: Result) -> None:
    """A finished comparison had the processes that it states; those of older files have no numbers."""
    found = len({run.process for run in result.runs if run.purpose == "timed"})
    expected = min(result.processes, max(result.pairs, 1))
    if result.complete and found != expected and (found, result.processes) != (0, 1):
        value, allowed = f"processes is {result.processes}", f"its samples give {found}"
        raise UsageError("result contradicts its samples", value=value, allowed=allowed)
