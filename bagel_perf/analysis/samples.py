"""Whether the runs of a result can be those of one comparison: nothing twice, nothing that was not asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.outlines import WHOLE
from bagel_perf.schema.results import Result
from bagel_perf.schema.runs import CountedRun, MeasuredRun, Run, TimedRun, WarmupRun, runs_of

MIN_MS, MAX_MS = 1e-6, 1e10
"""A nanosecond, and four months: no clock gives less, and nobody waits longer."""
MAX_NAME = 255
"""Bytes of a file's name."""


def check_samples(result: Result) -> None:
    """Raises ``UsageError`` with the first run that cannot be."""
    for name, each in (("variants", result.outline.measured), ("cases", result.cases), ("stages", result.stages)):
        if len(set(each)) != len(each):
            raise UsageError(f"{name} name one twice")
    _check_outline(result)
    seen: set[tuple[object, ...]] = set()
    for number, run in enumerate(result.runs):
        for problem in (*_problems(run, result), *_again(run, seen)):
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


def _check_outline(result: Result) -> None:
    """What names and numbers of a result have to be for anything to be worked out from them."""
    allowed = f"1 to {len(result.variants)}, as there are variants"
    if not 1 <= result.num_named <= len(result.variants):
        raise UsageError("num_named is out of range", value=result.num_named, allowed=allowed)
    if result.variants[0].tolerance is not None:
        raise UsageError("the first variant declares a tolerance, and is what others are held to")
    if WHOLE in result.stages:
        raise UsageError("a stage has the name of the whole", value=WHOLE)


def _problems(run: Run, result: Result) -> Iterator[str]:
    stages = {*result.stages, WHOLE}
    if run.case not in result.cases:
        yield f"is of {run.case[:60]}, which is no case"
    if result.subject.kind == "bagel" and size_text(run.output.shape) != run.case:
        yield f"is {run.case}, its picture {size_text(run.output.shape)}"
    if isinstance(run, MeasuredRun):
        measured = [each.stage for each in run.measurements]
        yield from (f"has a stage {each[:60]}, which is none" for each in measured if each not in stages)
    if isinstance(run, TimedRun):
        yield from _problems_of_times(run, result.pairs)
    if isinstance(run, CountedRun) and run.sites:
        counted = sum(each.host_syncs or 0 for each in run.measurements)
        placed = sum(site.count for site in run.sites)
        if placed != counted:
            yield f"waits {placed} times at its sites, and {counted} times in all"


def _problems_of_times(run: TimedRun, pairs: int) -> Iterator[str]:
    if not 0 <= run.round < pairs:
        yield f"is of round {run.round + 1}, and there were {pairs}"
    for each in run.measurements:
        if not MIN_MS <= each.latency_ms <= MAX_MS:
            yield f"has a latency of {each.stage} of {each.latency_ms:g} ms; {MIN_MS:g} to {MAX_MS:g} can be"


def _again(run: Run, seen: set[tuple[object, ...]]) -> Iterator[str]:
    """A stage that was timed twice in a round, or a proof that was made twice: only one of the two would count."""
    if not isinstance(run, WarmupRun | TimedRun):
        proof = run.purpose, run.case, run.variant, run.process
        if proof in seen:
            yield f"is the {run.purpose} run of {run.variant} at {run.case} a second time"
        seen.add(proof)
    if isinstance(run, TimedRun):
        for each in run.measurements:
            place = run.case, run.variant, run.round, run.again, each.stage
            if place in seen:
                yield f"times {each.stage} of {run.variant} a second time in round {run.round + 1}"
            seen.add(place)


def _paths(result: Result) -> Iterator[tuple[str, str | None]]:
    yield from ((f"path of runs[{number}]", run.output.path) for number, run in enumerate(result.runs))
    yield from ((f"path of inputs[{number}]", each.output.path) for number, each in enumerate(result.inputs))
    for number, shown in enumerate(result.outputs):
        yield f"outputs[{number}].path", shown.path
        yield f"outputs[{number}].difference_path", shown.difference_path


def size_text(shape: Sequence[int]) -> str:
    """WIDTHxHEIGHT of a picture's shape."""
    return f"{shape[1]}x{shape[0]}" if len(shape) > 1 else "no picture"


def _check_processes(result: Result) -> None:
    """A finished comparison had the processes that it states; those of older files have no numbers."""
    found = len({run.process for run in runs_of(TimedRun, result.runs)})
    expected = min(result.processes, max(result.pairs, 1))
    if result.complete and found != expected and (found, result.processes) != (0, 1):
        value, allowed = f"processes is {result.processes}", f"its samples give {found}"
        raise UsageError("result contradicts its samples", value=value, allowed=allowed)
