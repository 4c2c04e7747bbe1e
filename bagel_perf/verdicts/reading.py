"""Reads a result file and believes its samples alone: all else is worked out anew, and has to be what the file says.

A file that was edited, cut together or damaged is refused with the first thing that its own runs contradict: nothing
may be there twice, nor what was not asked for. Versions before wrote fewer fields; what a file does not state is not
compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from msgspec.structs import replace

from bagel_perf.records import codec
from bagel_perf.records.collector import without_collector
from bagel_perf.records.errors import BagelPerfError, OutputsDiffer, RunFailed, UsageError
from bagel_perf.records.events import lines_file
from bagel_perf.records.outlines import WHOLE
from bagel_perf.records.results import Result, ShownOutput, Unit, current, load_json, result_file
from bagel_perf.records.runs import CountedRun, MeasuredRun, Run, TimedRun, WarmupRun, runs_of
from bagel_perf.verdicts.compare import Session, build_result
from bagel_perf.verdicts.planning import unfinished_result
from bagel_perf.verdicts.plausible import check_result

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
            place = run.case, run.variant, run.round, run.is_control, each.stage
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


CONCLUSIONS = (
    "verdict",
    "exit_code",
    "complete",
    "findings",
    "cells",
    "outputs",
    "identity",
    "deltas",
    "steps",
    "noise",
    "stage_sums",
    "excluded",
    "ablations",
)
"""What follows from the runs, the gravest first: the first contradiction is the one that is told."""
LATER = frozenset({"steps", "noise", "ablations"})
"""Not in the oldest files; an empty list is taken for none, and says nothing, because the rebuilt one is shown."""
OTHER_RULE = re.compile(r"ablations\b|(deltas|steps)\[\d+\]\.verdict")
"""What files whose unit is the pair conclude by a rule that nothing goes by any more; it is shown anew."""
NOT_IN_RUNS = frozenset({"path", "difference_path"})
"""Where files lie is no conclusion."""
TOLERANCE = 1e-9
"""Relative, and in percent or ms absolute: logarithms differ in the last bits between machines."""
FORMER_WORDS = {"too few pairs": "inconclusive"}
"""Verdicts of a change in older files."""
MAX_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A result as its samples give it; ``environment_fields`` are those that the file states."""

    result: Result
    environment_fields: frozenset[str]


def load_checked(path: Path) -> Result:
    """The result in a file or folder, rebuilt from its runs; see ``read_result``."""
    return read_result(path).result


def read_result(path: Path) -> Reading:
    """Reads a file or folder, or the lines that a killed run left there.

    Raises ``UsageError`` where it is no result, or its runs contradict what it concludes.
    """
    lines = lines_file(path)
    file = result_file(path) if lines is None else lines
    # A file of 100 MB becomes millions of objects without a cycle, which the collector would walk again and again.
    with without_collector():
        data = load_json(file) if lines is None else unfinished_result(lines).to_json()
        try:
            data = current(data)
            result = checked(data)
        except (UsageError, OverflowError, RecursionError) as problem:
            raise UsageError("result file is not usable", value=file, allowed=str(problem)) from problem
    return Reading(result=result, environment_fields=frozenset(data["environment"]))


def checked(data: Any) -> Result:
    """The result of a JSON object, rebuilt from its runs. Raises ``UsageError`` with the first contradiction."""
    data = current(data)
    stated = Result.from_json(data)
    check_result(stated)
    check_samples(stated)
    by_own_rule = rebuilt(stated, stated.unit)
    for place, said, found in _contradictions(data, by_own_rule):
        if stated.unit == "pair" and OTHER_RULE.match(place):
            continue
        value, allowed = f"{place} is {_shown(said)}", f"its samples give {_shown(found)}"
        raise UsageError("result contradicts its samples", value=value, allowed=allowed)
    return rebuilt(stated) if stated.unit == "pair" else by_own_rule


def rebuilt(stated: Result, unit: Unit = "process") -> Result:
    """What the runs of a result give, with all that runs do not tell as the result states it."""
    outline = stated.outline
    for number, run in enumerate(stated.runs):
        if run.variant not in outline.measured:
            allowed = f"one of {_shown(', '.join(outline.measured))}"
            raise UsageError(f"runs[{number}] is of no variant", value=run.variant[:MAX_SHOWN], allowed=allowed)
    session = Session(
        command=stated.command,
        created=stated.created,
        pairs=stated.pairs,
        warmup=stated.warmup,
        order_seed=stated.order_seed,
        processes=stated.processes,
        startups_s=stated.startups_s,
        looks=stated.looks,
        unit=unit,
    )
    try:
        found = build_result(
            outline, stated.environment, stated.runs, session, error=_error(stated), warnings=stated.warnings
        )
    except (ArithmeticError, ValueError, LookupError, AssertionError) as problem:
        raise UsageError("samples give no result", value=f"{type(problem).__name__}: {problem}") from problem
    kept = {(each.case, each.variant): each for each in stated.outputs}
    outputs = tuple(_with_files(each, kept.get((each.case, each.variant))) for each in found.outputs)
    return replace(
        found,
        outputs=outputs,
        error=stated.error,
        inputs=stated.inputs,
        loads=stated.loads,
        ceilings=stated.ceilings,
        floors=stated.floors,
    )


def _with_files(found: ShownOutput, stated: ShownOutput | None) -> ShownOutput:
    """An output with the files that were kept of it, which an archive names anew."""
    if stated is None:
        return found
    return replace(found, path=stated.path, difference_path=stated.difference_path)


def _error(stated: Result) -> BagelPerfError | None:
    """The error that ended a run, by its exit code; one of pictures may lie in another result than this one."""
    if stated.error is None:
        return None
    kinds = {kind.exit_code: kind for kind in BagelPerfError.__subclasses__()}
    kind = OutputsDiffer if stated.verdict == "outputs differ" else kinds.get(stated.exit_code, RunFailed)
    return kind(stated.error)


def _contradictions(data: Mapping[str, Any], result: Result) -> Iterator[tuple[str, Any, Any]]:
    for name in CONCLUSIONS:
        if name in data and not (name in LATER and data[name] == []):
            yield from _differences(data[name], codec.to_json(getattr(result, name)), name)


def _differences(said: Any, found: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Place, what is stated, and what was found instead; of records only the fields that both have."""
    if isinstance(said, Mapping) and isinstance(found, Mapping):
        if _is_counts(place) and set(said) != set(found):
            yield place, said, found
        for key in (key for key in said if key in found and key not in NOT_IN_RUNS):
            yield from _differences(said[key], found[key], f"{place}.{key}")
    elif isinstance(said, list) and isinstance(found, list):
        if len(said) != len(found):
            yield place, f"{len(said)} in all", f"{len(found)} in all"
        for number, (one, other) in enumerate(zip(said, found, strict=False)):
            yield from _differences(one, other, f"{place}[{number}]")
    elif not _agree(said, found):
        yield place, said, found


def _is_counts(place: str) -> bool:
    """Whether the keys of an object are data, as components and directions are, and no fields."""
    return place.endswith((".syncs_by_component", ".copies"))


def _agree(said: Any, found: Any) -> bool:
    if isinstance(said, bool) or isinstance(found, bool):
        return said is found
    if isinstance(said, float | int) and isinstance(found, float | int):
        if isinstance(said, int) and isinstance(found, int):
            return said == found
        return math.isclose(said, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    if isinstance(said, str) and isinstance(found, str):
        return FORMER_WORDS.get(said, said) == FORMER_WORDS.get(found, found)
    return said is None and found is None


def _shown(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else "null" if value is None else str(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
