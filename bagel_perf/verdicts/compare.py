"""From the runs of a plan to the result: cells, outputs, identity, deltas, verdict.

A variant that fails a check of its output in some case has no latency there: a wrong picture is never fast.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise

from msgspec.structs import asdict

from bagel_perf.records.errors import BagelPerfError, EnvironmentUnfit, OutputsDiffer, RunFailed
from bagel_perf.records.events import FloorsEvent
from bagel_perf.records.outlines import NAMES, WHOLE, Outline, parts_of
from bagel_perf.records.results import (
    CaseInput,
    Cell,
    Delta,
    IdentityCheck,
    Result,
    ShownOutput,
    StageSum,
    Unit,
    Verdict,
)
from bagel_perf.records.runs import CountedRun, Environment, ProfiledRun, Purpose, RepeatedRun, Run, TimedRun, runs_of
from bagel_perf.verdicts import identity as pictures
from bagel_perf.verdicts.changes import Changes, ablations_of
from bagel_perf.verdicts.judging import latency_by_round
from bagel_perf.verdicts.plausible import disagreements, stage_sums
from bagel_perf.verdicts.work import work_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """How a comparison was run: the command line, when, and the numbers of rounds, warm-ups and processes.

    ``startups_s`` are the seconds before the first run of each process, ``looks`` the numbers of processes after which
    it would have stopped, ``unit`` what intervals take for independent.
    """

    command: str
    created: str
    pairs: int
    warmup: int
    order_seed: int
    processes: int = 1
    startups_s: tuple[float, ...] = ()
    looks: tuple[int, ...] = ()
    unit: Unit = "process"


def build_result(
    outline: Outline,
    environment: Environment,
    runs: Sequence[Run],
    session: Session,
    *,
    error: BagelPerfError | None = None,
    warnings: Sequence[str] = (),
    inputs: Sequence[CaseInput] = (),
    floors: FloorsEvent | None = None,
) -> Result:
    """The result of a finished plan, or of as much of it as ``runs`` hold; ``error`` is what ended it early.

    ``inputs`` are what the cases bring along, ``floors`` what was measured of the GPU's ceilings. What was compared is
    in the result as the outline has it.
    """
    stages = outline.timed_stages
    unit: Unit = "round" if outline.is_server else session.unit
    identity = tuple(_identity(outline, runs))
    trusted, wrong = _proven(outline, runs, identity)
    missing = () if error else tuple(_missing(outline, runs, session.pairs))
    changes = Changes.of(runs, outline.cases, stages, trusted.keys(), session.looks, unit)
    deltas = tuple(changes.deltas([(outline.named[0], each) for each in outline.measured[1:]]))
    parts = () if outline.is_server else outline.stages  # a server's stages overlap, and leave the way to it out
    sums = tuple(stage_sums(runs, parts, [*trusted], changes.clock_mhz, session.looks))
    invalid = () if unit == "pair" else tuple(_invalid(deltas, sums, environment))
    is_refused = bool(wrong) and not (_ended_early(error) and _are_only_empty(outline, runs, wrong))
    verdict, exit_code = _verdict(is_refused, missing, invalid, error)
    return Result(
        **asdict(outline),
        environment=environment,
        cells=tuple(_cells(outline, runs, trusted.keys())),
        outputs=tuple(_outputs(outline, runs)),
        identity=identity,
        deltas=deltas,
        verdict=verdict,
        exit_code=exit_code,
        complete=not error and not missing,
        findings=(*wrong, *missing, *invalid),
        warnings=tuple(warnings),
        error=str(error) if error else None,
        command=session.command,
        created=session.created,
        pairs=session.pairs,
        warmup=session.warmup,
        order_seed=session.order_seed,
        runs=tuple(runs),
        steps=tuple(changes.deltas([*pairwise(outline.named)])),
        ablations=tuple(ablations_of(outline, runs, trusted.keys(), session.looks)),
        noise=tuple(changes.noise()),
        stage_sums=sums,
        excluded=tuple(changes.excluded()),
        processes=session.processes,
        startups_s=session.startups_s,
        looks=session.looks,
        unit=unit,
        inputs=tuple(inputs),
        ceilings=None if floors is None else floors.ceilings,
        floors=() if floors is None else floors.floors,
    )


def _proven(
    outline: Outline, runs: Sequence[Run], identity: Sequence[IdentityCheck]
) -> tuple[dict[tuple[str, str], None], tuple[str, ...]]:
    """Where outputs are right, in order, and what is wrong with the others, in words."""
    places = [(case, variant) for case in outline.cases for variant in outline.measured]
    differing = {(check.case, check.candidate) for check in identity if not check.is_ok}
    faults = {place: pictures.self_check(runs, *place, is_bagel=outline.is_bagel) for place in places}
    right = [place for place in places if not faults[place] and place not in differing]
    wrong = [_difference(check) for check in identity if not check.is_ok]
    return dict.fromkeys(right), (*wrong, *(finding for place in places for finding in faults[place]))


def _difference(check: IdentityCheck) -> str:
    what = f"{check.candidate} at {check.case}"
    tolerance = check.tolerance
    if check.distance is None or tolerance is None:
        return f"{what} differs from {check.reference}"
    side = "under" if tolerance.kind == "psnr" else f"over in {NAMES[tolerance.kind]},"
    return (
        f"{what} is {tolerance.text(check.distance)}{tolerance.unit} from {check.reference}, {side} {tolerance.limit:g}"
    )


def _invalid(deltas: Sequence[Delta], sums: Sequence[StageSum], environment: Environment) -> Iterator[str]:
    """What shows that latencies are no account of the variants; on a CPU whole and stages need not agree."""
    for case, stage in dict.fromkeys((each.case, each.stage) for each in deltas if each.verdict == "invalid"):
        what = "the first variant differs from itself, or over a quarter of the pairs were excluded"
        yield f"{stage} at {case}: {what}; run it again"
    yield from disagreements(sums, environment)


def _ended_early(error: BagelPerfError | None) -> bool:
    return error is not None and not isinstance(error, OutputsDiffer)


def _are_only_empty(outline: Outline, runs: Sequence[Run], wrong: Sequence[str]) -> bool:
    """Whether all that is wrong is outputs that show nothing, which outrank no other end."""
    places = [(case, variant) for case in outline.cases for variant in outline.measured]
    empty = {finding for place in places for finding in pictures.empty_check(runs, *place)}
    return empty.issuperset(wrong)


def _verdict(
    is_refused: bool, missing: Sequence[str], invalid: Sequence[str], error: BagelPerfError | None
) -> tuple[Verdict, int]:
    if is_refused or isinstance(error, OutputsDiffer):
        return "outputs differ", OutputsDiffer.exit_code
    if error:
        return "incomplete", error.exit_code
    if missing:
        return "incomplete", RunFailed.exit_code
    return ("invalid", EnvironmentUnfit.exit_code) if invalid else ("pass", 0)


def _missing(outline: Outline, runs: Sequence[Run], pairs: int) -> Iterator[str]:
    """Names what a finished plan should have given, so that a check which was not made cannot pass."""
    wanted: tuple[Purpose, ...] = ("count", "repeat", "other_seed")
    if outline.is_server:  # whose waits nobody counts
        wanted = ("warmup", "repeat", "other_seed")
    for case in outline.cases:
        for variant in outline.measured:
            own = pictures.at(runs, case, variant)
            place = f"{variant} at {case}"
            purposes = {run.purpose for run in own}
            yield from (f"{place} lacks its {purpose} run" for purpose in wanted if purpose not in purposes)
            for stage in outline.timed_stages:
                number = len(latency_by_round(own, stage))
                if number < pairs:
                    yield f"{place} has {number} of {pairs} latencies of {stage}"


def _identity(outline: Outline, runs: Sequence[Run]) -> Iterator[IdentityCheck]:
    reference, *candidates = outline.measured
    for case in outline.cases:
        for candidate in candidates:
            tolerance = outline.tolerance_of(candidate)
            check = pictures.identity_check(runs, case, reference, candidate, tolerance)
            if check is not None:
                yield check


def _outputs(outline: Outline, runs: Sequence[Run]) -> Iterator[ShownOutput]:
    for case in outline.cases:
        for variant in outline.measured:
            own = [run.output for run in pictures.at(runs, case, variant) if run.seed == outline.seed]
            if own:
                first = own[0]
                path = next((each.path for each in own if each.md5 == first.md5 and each.path), None)
                yield ShownOutput(
                    case=case, variant=variant, kind=first.kind, md5=first.md5, sha256=first.sha256, path=path
                )


def _cells(outline: Outline, runs: Sequence[Run], trusted: AbstractSet[tuple[str, str]]) -> Iterator[Cell]:
    for case in outline.cases:
        for stage in outline.timed_stages:
            for variant in outline.measured:
                own = pictures.at(runs, case, variant)
                latencies = tuple(latency_by_round(own, stage).values()) if (case, variant) in trusted else ()
                yield _cell(case, stage, variant, own, latencies, parts_of(stage, outline.stages))


def _cell(
    case: str, stage: str, variant: str, own: Sequence[Run], latencies: tuple[float, ...], parts: tuple[str, ...]
) -> Cell:
    host_syncs, by_component = _counts(own, parts)
    work, loop = work_of(own, parts), work_of(own, parts, in_loop=True)
    loop_steps = sum(
        each.loop_steps or 0 for run in runs_of(ProfiledRun, own) for each in run.measurements if each.stage in parts
    )
    memory = [each for run in runs_of(RepeatedRun, own) for each in run.measurements if each.stage in (*parts, stage)]
    return Cell(
        case=case,
        stage=stage,
        variant=variant,
        latency_ms=latencies,
        median_ms=statistics.median(latencies) if latencies else None,
        host_syncs=host_syncs,
        launches=work.launches if work else None,
        peak_bytes=max((each.peak_bytes for each in memory if each.peak_bytes is not None), default=None),
        syncs_by_component=by_component,
        sync_device=next((run.sync_device for run in runs_of(CountedRun, own)), None),
        work=work,
        launches_per_step=loop.launches / loop_steps if loop and loop_steps else None,
        allocations=_allocations(own, parts),
        energy_j=_energy_j(own) if stage == WHOLE else None,
        gpu_s=statistics.median(latencies) / 1e3 if latencies and stage == WHOLE and work else None,
    )


def _allocations(own: Sequence[Run], parts: Sequence[str]) -> int | None:
    """Of the device's allocator, in the run that also gives the peak."""
    numbers = [
        measured.allocations
        for run in runs_of(RepeatedRun, own)
        for part in parts
        if (measured := run.measurement(part)) is not None and measured.allocations is not None
    ]
    return sum(numbers) if numbers else None


def _energy_j(own: Sequence[Run]) -> float | None:
    """Median of the runs that were timed as a whole; the counter is read just outside of them."""
    whole = [run.conditions for run in runs_of(TimedRun, own) if run.measurement(WHOLE) is not None]
    joules = [each.energy_j for each in whole if each is not None and each.energy_j is not None]
    return statistics.median(joules) if joules else None


def _counts(own: Sequence[Run], parts: Sequence[str]) -> tuple[int | None, dict[str, int] | None]:
    """Host syncs of these stages together, in all and by component."""
    counted = next(runs_of(CountedRun, own), None)
    if counted is None:
        return None, None
    measured = [counted.measurement(each) for each in parts]
    total, by_component = 0, dict[str, int]()
    for part in measured:
        if part is None or part.host_syncs is None:
            return None, None
        total += part.host_syncs
        for component, number in (part.syncs_by_component or {}).items():
            by_component[component] = by_component.get(component, 0) + number
    return total, by_component if any(part and part.syncs_by_component is not None for part in measured) else None
