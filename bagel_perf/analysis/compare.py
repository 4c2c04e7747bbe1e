"""From the runs of a plan to the result: cells, pictures, identity, deltas, verdict.

A variant that fails a check of its picture at some resolution has no latency there: a wrong picture is never fast.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise

from bagel_perf.analysis import pictures
from bagel_perf.analysis.ablation import ablations_of
from bagel_perf.analysis.changes import Changes, Size
from bagel_perf.analysis.rounds import latency_by_round
from bagel_perf.analysis.stage_sums import disagreements, stage_sums
from bagel_perf.analysis.tolerances import psnr_text
from bagel_perf.analysis.work import work_of
from bagel_perf.schema.errors import BagelPerfError, EnvironmentUnfit, OutputsDiffer, RunFailed
from bagel_perf.schema.events import FloorsEvent
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.results import Cell, Delta, IdentityCheck, Image, Result, StageSum, Unit, Verdict, res_label
from bagel_perf.schema.runs import Environment, Picture, Purpose, Run
from bagel_perf.schema.slots import STAGES, Stage, summed_stages


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
    processes: int = 1
    startups_s: tuple[float, ...] = ()
    looks: tuple[int, ...] = ()
    unit: Unit = "process"


def build_result(
    plan: Plan,
    environment: Environment,
    runs: Sequence[Run],
    session: Session,
    *,
    error: BagelPerfError | None = None,
    warnings: Sequence[str] = (),
    inputs: Sequence[Picture] = (),
    floors: FloorsEvent | None = None,
) -> Result:
    """The result of a finished plan, or of as much of it as ``runs`` hold; ``error`` is what ended it early.

    ``inputs`` are the pictures to edit, ``floors`` what was measured of the GPU's ceilings.
    """
    sizes = [(request.width, request.height) for request in plan.requests]
    identity = tuple(_identity(plan, sizes, runs))
    trusted, wrong = _proven(plan, sizes, runs, identity)
    missing = () if error else tuple(_missing(plan, sizes, runs, session.pairs))
    changes = Changes.of(runs, sizes, trusted.keys(), session.looks, session.unit)
    deltas = tuple(changes.deltas([(plan.variants[0], each) for each in plan.measured[1:]]))
    sums = tuple(stage_sums(runs, [*trusted], changes.clock_mhz, session.looks))
    invalid = tuple(_invalid(deltas, sums, environment)) if session.unit == "process" else ()
    verdict, exit_code = _verdict(wrong, missing, invalid, error)
    return Result(
        environment=environment,
        requests=plan.requests,
        variants=plan.variants,
        cells=tuple(_cells(plan, sizes, runs, trusted.keys())),
        images=tuple(_images(plan, runs)),
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
        order_seed=plan.order_seed,
        runs=tuple(runs),
        ladder=plan.ladder,
        steps=tuple(changes.deltas([*pairwise(plan.variants)])),
        ablations=tuple(ablations_of(plan, runs, trusted.keys(), session.looks)),
        noise=tuple(changes.noise()),
        stage_sums=sums,
        dropped=tuple(changes.dropped()),
        processes=session.processes,
        startups_s=session.startups_s,
        looks=session.looks,
        unit=session.unit,
        inputs=tuple(inputs),
        ceilings=None if floors is None else floors.ceilings,
        floors=() if floors is None else floors.floors,
    )


def _proven(
    plan: Plan, sizes: Sequence[Size], runs: Sequence[Run], identity: Sequence[IdentityCheck]
) -> tuple[dict[tuple[Size, str], None], tuple[str, ...]]:
    """Where pictures are right, in order, and what is wrong with the others, in words."""
    places = [(size, variant) for size in sizes for variant in plan.measured]
    differing = {(check.res, check.candidate) for check in identity if not check.is_ok}
    faults = {place: pictures.self_check(runs, *place) for place in places}
    right = [place for place in places if not faults[place] and (res_label(*place[0]), place[1]) not in differing]
    wrong = [_difference(check) for check in identity if not check.is_ok]
    return dict.fromkeys(right), (*wrong, *(finding for place in places for finding in faults[place]))


def _difference(check: IdentityCheck) -> str:
    what = f"{check.candidate} at {check.res}"
    if check.psnr_db is None or check.min_psnr_db is None:
        return f"{what} differs from {check.reference}"
    psnr = psnr_text(check.psnr_db, check.min_psnr_db)
    return f"{what} is {psnr} dB from {check.reference}, under {check.min_psnr_db:g}"


def _invalid(deltas: Sequence[Delta], sums: Sequence[StageSum], environment: Environment) -> Iterator[str]:
    """What shows that latencies are no account of the variants; on a CPU whole and stages need not agree."""
    for res, stage in dict.fromkeys((each.res, each.stage) for each in deltas if each.verdict == "invalid"):
        what = "the first variant differs from itself, or over a quarter of the pairs were dropped"
        yield f"{stage} at {res}: {what}; run it again"
    yield from disagreements(sums, environment)


def _verdict(
    wrong: Sequence[str], missing: Sequence[str], invalid: Sequence[str], error: BagelPerfError | None
) -> tuple[Verdict, int]:
    if wrong or isinstance(error, OutputsDiffer):
        return "outputs differ", OutputsDiffer.exit_code
    if error:
        return "incomplete", error.exit_code
    if missing:
        return "incomplete", RunFailed.exit_code
    return ("invalid", EnvironmentUnfit.exit_code) if invalid else ("pass", 0)


def _missing(plan: Plan, sizes: Sequence[Size], runs: Sequence[Run], pairs: int) -> Iterator[str]:
    """Names what a finished plan should have given, so that a check which was not made cannot pass."""
    wanted: tuple[Purpose, ...] = ("count", "repeat", "other_seed")
    for size in sizes:
        for variant in plan.measured:
            own = pictures.at(runs, size, variant)
            place = f"{variant} at {res_label(*size)}"
            purposes = {run.purpose for run in own}
            yield from (f"{place} lacks its {purpose} run" for purpose in wanted if purpose not in purposes)
            for stage in STAGES:
                number = len(latency_by_round(own, stage))
                if number < pairs:
                    yield f"{place} has {number} of {pairs} latencies of {stage}"


def _identity(plan: Plan, sizes: Sequence[Size], runs: Sequence[Run]) -> Iterator[IdentityCheck]:
    reference, *candidates = plan.measured
    for size in sizes:
        for candidate in candidates:
            check = pictures.identity_check(runs, size, reference, candidate)
            if check is not None:
                yield check


def _images(plan: Plan, runs: Sequence[Run]) -> Iterator[Image]:
    for request in plan.requests:
        size = (request.width, request.height)
        for variant in plan.measured:
            own = [run.picture for run in pictures.at(runs, size, variant) if run.seed == request.seed]
            if own:
                first = own[0]
                path = next((each.path for each in own if each.md5 == first.md5 and each.path), None)
                label = res_label(*size)
                yield Image(res=label, variant=variant, md5=first.md5, pixels_sha256=first.pixels_sha256, path=path)


def _cells(
    plan: Plan, sizes: Sequence[Size], runs: Sequence[Run], trusted: AbstractSet[tuple[Size, str]]
) -> Iterator[Cell]:
    for size, request in zip(sizes, plan.requests, strict=True):
        for stage in STAGES:
            for variant in plan.measured:
                own = pictures.at(runs, size, variant)
                latencies = tuple(latency_by_round(own, stage).values()) if (size, variant) in trusted else ()
                yield _cell(size, stage, variant, own, latencies, request.steps - 1)


def _cell(
    size: Size, stage: Stage, variant: str, own: Sequence[Run], latencies: tuple[float, ...], num_steps: int
) -> Cell:
    width, height = size
    host_syncs, by_slot = _counts(own, stage)
    parts = STAGES if stage == "e2e" else (stage,)
    work, loop = work_of(own, stage), work_of(own, stage, in_loop=True)
    peaks = [each.peak_bytes for run in own for each in run.measurements if each.stage in parts]
    return Cell(
        res=res_label(width, height),
        stage=stage,
        variant=variant,
        latency_ms=latencies,
        median_ms=statistics.median(latencies) if latencies else None,
        host_syncs=host_syncs,
        launches=work.launches if work else None,
        peak_bytes=max((peak for peak in peaks if peak is not None), default=None),
        width=width,
        height=height,
        syncs_by_slot=by_slot,
        sync_device=next((run.sync_device for run in own if run.purpose == "count"), None),
        work=work,
        launches_per_step=loop.launches / num_steps if loop else None,
        allocations=_allocations(own, stage),
        energy_j=_energy_j(own) if stage == "e2e" else None,
        gpu_s=statistics.median(latencies) / 1e3 if latencies and stage == "e2e" and work else None,
    )


def _allocations(own: Sequence[Run], stage: Stage) -> int | None:
    """Of the device's allocator, in the run that also gives the peak."""
    numbers = [
        measured.allocations
        for run in own
        if run.purpose == "repeat"
        for part in summed_stages(stage)
        if (measured := run.measurement(part)) is not None and measured.allocations is not None
    ]
    return sum(numbers) if numbers else None


def _energy_j(own: Sequence[Run]) -> float | None:
    """Median of the runs that were timed as a whole; the counter is read just outside of them."""
    whole = [run.conditions for run in own if run.measurement("e2e") is not None]
    joules = [each.energy_j for each in whole if each is not None and each.energy_j is not None]
    return statistics.median(joules) if joules else None


def _counts(own: Sequence[Run], stage: Stage) -> tuple[int | None, dict[str, int] | None]:
    """Host syncs of a stage in all and by slot; those of ``e2e`` are the sums over ``ar`` and ``dit``."""
    counted = next((run for run in own if run.purpose == "count"), None)
    if counted is None:
        return None, None
    parts = [counted.measurement(each) for each in summed_stages(stage)]
    total, by_slot = 0, dict[str, int]()
    for part in parts:
        if part is None or part.host_syncs is None:
            return None, None
        total += part.host_syncs
        for slot, number in (part.syncs_by_slot or {}).items():
            by_slot[slot] = by_slot.get(slot, 0) + number
    return total, by_slot if any(part and part.syncs_by_slot is not None for part in parts) else None
