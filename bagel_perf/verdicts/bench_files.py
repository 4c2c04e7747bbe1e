"""Files of other benchmarks held against each other: never in pairs, and without a verdict where no spread is known.

A file is one run, whatever number of requests it sums up: requests of one process share its luck. So six files of
either side give a verdict, by the same rule as processes of two results that were not measured in turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from bagel_perf.records.bench_files import ASKED, BenchFile
from bagel_perf.records.errors import UsageError
from bagel_perf.records.gates import Finding, GatedCell, GateReport, Limit, limit_of, limits_for
from bagel_perf.verdicts import joint
from bagel_perf.verdicts.gated_cells import cell_findings, judge_unpaired
from bagel_perf.verdicts.judging import Judgement, joined
from bagel_perf.verdicts.statistics import CONFIDENCE

CASE = "requests"
APART = (
    "not paired: what else changed between the two, clocks, temperature, other load, is in the change, and no interval "
    "covers it; compare before=http://... after=http://... asks both in turns"
)
FILES = "a file is taken for a process, and files of one server share its luck"
NO_PICTURES = "pictures are not in these files, so a faster one may show something else"


def judge_bench(
    reference: Sequence[BenchFile],
    candidate: Sequence[BenchFile],
    names: tuple[str, str],
    limits: Sequence[Limit],
) -> GateReport:
    """Holds each stage that all files tell to its limit; ``names`` are of the two sides.

    Raises ``UsageError`` where the two are of unlike forms, share no stage, or a limit names another.
    """
    if reference[0].form != candidate[0].form:
        value = f"{names[1]} of {candidate[0].form}, {names[0]} of {reference[0].form}"
        raise UsageError("two forms of benchmark measure other things", value=value, remedy="give two of one form")
    stages = _shared(reference, candidate)
    if not stages:
        raise UsageError("no stage is told by all files", value=f"{names[0]}, {names[1]}")
    held = limits_for(limits, [CASE], stages)
    unlike = [*_unlike(reference, candidate)]
    cells = () if unlike else _cells(reference, candidate, names[1], stages, held)
    failed = [*_failed(candidate)]
    findings = (*unlike, *failed, *cell_findings(cells))
    return GateReport(
        findings=findings,
        checks=(
            ("environment", "invalid" if unlike else "pass"),
            ("complete", "incomplete" if failed else "pass"),
            *((("latencies", "not judged"),) if unlike else ()),
        ),
        notes=(APART, FILES, NO_PICTURES, *_notes(reference, candidate)),
        subject=f"What {candidate[0].form} wrote: {names[1]} against {names[0]}",
        cells=cells,
    )


def _shared(*sides: Sequence[BenchFile]) -> tuple[str, ...]:
    files = [each for side in sides for each in side]
    return tuple(
        stage.stage for stage in files[0].stages if all(each.typical_ms(stage.stage) is not None for each in files)
    )


def _unlike(reference: Sequence[BenchFile], candidate: Sequence[BenchFile]) -> Iterator[Finding]:
    """Where models or requests differ, no latency is judged."""
    for name in ("model", *ASKED):
        values = [{_fact(each, name) for each in side} for side in (reference, candidate)]
        known = [side - {None} for side in values]
        if all(known) and (known[0] != known[1] or len(known[0]) > 1):
            texts = [", ".join(sorted(map(str, side))) for side in known]
            yield Finding(kind="environment", message=f"{name} is {texts[1]}, against {texts[0]}")


def _fact(file: BenchFile, name: str) -> object:
    return file.model if name == "model" else file.asked.get(name)


def _failed(files: Sequence[BenchFile]) -> Iterator[Finding]:
    for each in files:
        if each.num_failed:
            yield Finding(kind="incomplete", message=f"{each.num_failed} requests failed in {each.name}")


def _notes(*sides: Sequence[BenchFile]) -> Iterator[str]:
    unknown = dict.fromkeys(stage for side in sides for each in side for stage in each.unknown)
    if unknown:
        yield f"not judged, as their unit is not known: {', '.join(unknown)}"


def _cells(
    reference: Sequence[BenchFile],
    candidate: Sequence[BenchFile],
    name: str,
    stages: Sequence[str],
    limits: Sequence[Limit],
) -> tuple[GatedCell, ...]:
    ms = {stage: (_by_file(reference, stage), _by_file(candidate, stage)) for stage in stages}
    alone: dict[str, Judgement] = {}
    for stage, (before, after) in ms.items():
        limit = limit_of(limits, CASE, stage)
        if limit is not None:
            alone[stage] = judge_unpaired(before, after, replace(limit, case=CASE, stage=stage))
    excess = {stage: each.excess for stage, each in alone.items() if isinstance(each.excess, tuple)}
    shown = joint.shown_above_apart(excess)
    judged = {stage: joined(each, is_shown=stage in shown, num_judged=len(alone)) for stage, each in alone.items()}
    return tuple(_cell(stage, name, *ms[stage], judgement) for stage, judgement in judged.items())


def _by_file(files: Sequence[BenchFile], stage: str) -> dict[int, float]:
    found = {number: each.typical_ms(stage) for number, each in enumerate(files)}
    return {number: ms for number, ms in found.items() if ms is not None}


def _cell(stage: str, name: str, before: dict[int, float], after: dict[int, float], judgement: Judgement) -> GatedCell:
    return GatedCell(
        case=CASE,
        stage=stage,
        variant=name,
        before_ms=statistics.median(before.values()),
        after_ms=statistics.median(after.values()),
        change=judgement.estimate,
        interval=judgement.interval,
        limit=judgement.limit,
        verdict=judgement.state,
        reason=judgement.reason.replace("processes", "files").replace("process", "file"),
        num_pairs=min(len(before), len(after)),
        num_processes=judgement.num_processes,
        confidence=CONFIDENCE,
        is_paired=False,
    )
