"""Tables of a result as plain data, which text and Markdown render alike.

A table holds finished strings: every number is formatted here, once, so that no two renderings can disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bagel_perf.records.outlines import NAMES, WHOLE
from bagel_perf.records.results import Cell, Delta, IdentityCheck, Result
from bagel_perf.records.runs import Verification
from bagel_perf.report.ablation_tables import ablation_tables
from bagel_perf.report.load_tables import load_tables
from bagel_perf.report.machine_tables import condition_tables, floor_tables
from bagel_perf.report.table import (
    MEDIANS_HEADER,
    NONE,
    PAIRED_HEADER,
    Column,
    Table,
    bitwise_variants,
    cell_of,
    change_text,
    changes_caption,
    counted,
    delta_of,
    median_text,
    medians_change_text,
    noise_columns,
    noise_texts,
    peak_text,
    place_text,
    sentences,
    stage_text,
    syncs_text,
    tolerant_variants,
    unit_text,
    verdict_text,
)
from bagel_perf.verdicts.identity import tensor_groups
from bagel_perf.verdicts.statistics import MIN_PROCESSES
from bagel_perf.verdicts.work import busy_share

STEPS_CAPTION = "steps do not multiply exactly to the whole change, as each is a median of its own"


def successive_tables(result: Result) -> Iterator[Table]:
    """One a resolution, a row per stage and variant with its step from the one before; none unless asked for."""
    if result.successive:
        yield from every_successive_table(result)


def every_successive_table(result: Result) -> Iterator[Table]:
    """The same, whether or not it was asked for."""
    yield from (_successive_table(result, case) for case in result.cases)


def _successive_table(result: Result, case: str) -> Table:
    variants = bitwise_variants(result)
    rows = []
    for stage in result.timed_stages:
        for before, variant in zip((None, *variants), variants, strict=False):
            cell = cell_of(result, case, stage, variant)
            rows.append(
                (
                    stage_text(stage),
                    variant,
                    median_text(cell),
                    *(_pair_texts(result, steps_to(result, variant), case, stage, before, variant)),
                    *(_pair_texts(result, result.deltas, case, stage, before and variants[0], variant)),
                    syncs_text(cell),
                )
            )
    headers = ("ms", *(f"{which}: {name}" for which in ("step", "in all") for name in PAIR_HEADERS), "syncs")
    return Table(
        title=f"{place_text(result)}: from variant to variant at {case}",
        columns=(
            Column(header="stage"),
            Column(header="variant"),
            *(Column(header=header, numeric=True) for header in headers),
        ),
        rows=tuple(rows),
        caption=changes_caption(
            result,
            variants,
            rows,
            f"a step is from the variant above, and in all is from {variants[0]}",
            STEPS_CAPTION,
            case=case,
        ),
    )


def steps_to(result: Result, variant: str) -> Sequence[Delta]:
    """The changes to a variant from the one above, which for the second are those from the first."""
    return result.deltas if variant in bitwise_variants(result)[:2] else result.steps


PAIR_HEADERS = (MEDIANS_HEADER, PAIRED_HEADER)


def _pair_texts(
    result: Result, deltas: Sequence[Delta], case: str, stage: str, before: str | None, after: str
) -> tuple[str, str]:
    """The delta of medians, and the paired change with its interval; the first variant has neither."""
    if before is None:
        return NONE, NONE
    medians = medians_change_text(*(cell_of(result, case, stage, name) for name in (before, after)))
    return medians, change_text(delta_of(deltas, case, stage, after), unit_text(result), sign="")


SYNC_CAPTIONS = {
    "cuda": "host syncs were counted by CUDA callbacks",
    "simulated": "host syncs were counted on a simulated device",
    None: "host syncs were not counted",
}


def result_tables(result: Result) -> tuple[Table, ...]:
    """Latency of each candidate against the first variant or the one before, counts, floors, identity."""
    successive = tuple(successive_tables(result))
    latency = successive or tuple(latency_table(result, candidate) for candidate in bitwise_variants(result)[1:])
    work = (work_table(result),) if any(cell.work for cell in result.cells) else ()
    syncs = () if result.outline.is_server else (sync_table(result),)
    counts = (*syncs, *work, *condition_tables(result), *floor_tables(result))
    return (
        *latency,
        *tolerance_tables(result),
        *ablation_tables(result),
        *load_tables(result),
        *counts,
        identity_table(result),
    )


def latency_table(result: Result, candidate: str) -> Table:
    """Before and after as medians with their delta, and the paired change with its interval."""
    reference = result.named[0]
    rows = [
        (case, stage_text(stage), *change_cells(result, case, stage, candidate))
        for case in result.cases
        for stage in result.timed_stages
    ]
    return Table(
        title=f"{place_text(result)}: {reference} -> {candidate}",
        columns=(Column(header="case"), Column(header="stage"), *change_columns(result)),
        rows=tuple(rows),
        caption=changes_caption(result, (reference, candidate), rows),
    )


def change_columns(result: Result) -> tuple[Column, ...]:
    """Of what ``change_cells`` gives."""
    headers = ("before (ms)", "after (ms)", *PAIR_HEADERS, "interval (%)")
    numbers = (Column(header=header, numeric=True) for header in headers)
    return (*numbers, *noise_columns(result), Column(header="verdict"))


def change_cells(result: Result, case: str, stage: str, candidate: str) -> tuple[str, ...]:
    """Medians of the first variant and of a candidate, their delta, the paired change, the noise and the verdict."""
    before, after = (cell_of(result, case, stage, name) for name in (result.named[0], candidate))
    delta = delta_of(result.deltas, case, stage, candidate)
    medians = median_text(before), median_text(after), medians_change_text(before, after)
    return (*medians, *_delta_texts(delta, unit_text(result)), *noise_texts(result, case, stage), verdict_text(delta))


def sync_table(result: Result) -> Table:
    """Host syncs by resolution and stage, a column per variant."""
    rows = tuple(
        (
            case,
            stage_text(stage),
            *(syncs_text(cell_of(result, case, stage, variant)) for variant in result.named),
        )
        for case in result.cases
        for stage in result.timed_stages
    )
    return Table(
        title="Host syncs",
        columns=(
            Column(header="case"),
            Column(header="stage"),
            *(Column(header=variant, numeric=True) for variant in result.named),
        ),
        rows=rows,
        caption=sync_caption(result),
    )


def work_table(result: Result) -> Table:
    """What each variant has the GPU do in a stage: launches, kernels, the share of its time, and memory."""
    rows = [
        (cell.case, stage_text(cell.stage), cell.variant, *_work_texts(cell))
        for cell in result.cells
        if cell.work is not None and cell.variant in result.named
        if cell.stage in (result.stages if len(result.stages) > 1 else (WHOLE,))
    ]
    headers = ("launches", "a step", "kernels", "GPU busy (ms)", "busy (%)", "peak (GiB)")
    return Table(
        title="GPU work",
        columns=(
            Column(header="case"),
            Column(header="stage"),
            Column(header="variant"),
            *(Column(header=header, numeric=True) for header in headers),
        ),
        rows=tuple(rows),
        caption=sentences(
            "counted in a profiled run",
            "the replay of a graph is one launch",
            "busy (%) is a share of the median latency",
        ),
    )


def _work_texts(cell: Cell) -> tuple[str, ...]:
    assert cell.work is not None
    per_step = NONE if cell.launches_per_step is None else f"{cell.launches_per_step:.1f}"
    share = busy_share(cell)
    busy = f"{cell.work.busy_ms:.1f}", NONE if share is None else f"{100 * share:.0f}"
    return str(cell.work.launches), per_step, str(cell.work.kernels), *busy, peak_text(cell)


def identity_table(result: Result) -> Table:
    """The output of each variant, and whether every run gave the reference's."""
    checks = {(check.case, check.candidate): check for check in result.identity}
    apart = tolerant_variants(result)
    has_pixels = any(check.num_differing for check in result.identity if check.candidate not in apart)
    differing, hashes = "differing values", "md5 of the bytes, sha256 of dtype, shape and values"
    if result.outline.is_bagel:
        differing, hashes = "differing pixels", "md5 of the PNG and sha256 of the pixels"
    elif result.outline.is_server:
        differing, hashes = "differing pixels", "md5 and sha256 of the decoded pixels"
    rows = []
    for image in (each for each in result.outputs if each.variant not in apart):
        check = checks.get((image.case, image.variant))
        same = "reference" if image.variant == result.named[0] else NONE
        if check is not None:
            same = "yes" if check.identical else "NO"
        pixels = (_differing_text(check),) if has_pixels else ()
        runs = str(check.num_runs) if check else NONE
        rows.append((image.case, image.variant, image.md5[:12], same, *pixels, runs))
    return Table(
        title=f"{result.outline.noun}s".capitalize(),
        columns=(
            Column(header="case"),
            Column(header="variant"),
            Column(header="md5"),
            Column(header="identical"),
            *([Column(header=differing, numeric=True)] if has_pixels else []),
            Column(header="runs compared", numeric=True),
        ),
        rows=tuple(rows),
        caption=sentences(
            f"every run of the same seed was compared: {hashes}",
            f"{differing} are the most of any run" if has_pixels else "",
        ),
    )


def _differing_text(check: IdentityCheck | None) -> str:
    return NONE if check is None or check.num_differing is None else f"{check.num_differing:,}"


def verification_table(verification: Verification, variant: str) -> Table:
    """The worst error of each group of golden tensors under one variant."""
    rows = tuple(
        (
            group.name,
            str(group.num_tensors),
            group.worst.tensor,
            f"{group.worst.error:.2g}",
            f"{group.worst.limit:.2g}",
            "yes" if group.ok else "NO",
        )
        for group in tensor_groups(verification.of(variant))
    )
    return Table(
        title=f"Golden tensors under {variant}",
        columns=(
            Column(header="group"),
            Column(header="tensors", numeric=True),
            Column(header="worst tensor"),
            Column(header="worst error", numeric=True),
            Column(header="limit", numeric=True),
            Column(header="ok"),
        ),
        rows=rows,
        caption=sentences(
            "an error is the relative L2 norm",
            "of uint8 it is the mean difference of grey levels, and of integers the difference",
        ),
    )


def sync_caption(result: Result) -> str:
    devices = {cell.sync_device for cell in result.cells} - {None}
    return sentences(*(SYNC_CAPTIONS[device] for device in sorted(devices, key=str) or [None]))


def _delta_texts(delta: Delta | None, unit: str) -> tuple[str, str]:
    if delta is None:
        return NONE, NONE
    interval = f"{counted(delta.num_processes, unit)}, {MIN_PROCESSES} needed"
    if delta.ci_pct is not None:
        interval = f"{delta.ci_pct[0]:+.1f} to {delta.ci_pct[1]:+.1f}"
    return f"{delta.delta_pct:+.1f}", interval


def tolerance_tables(result: Result) -> Iterator[Table]:
    """One a resolution, apart from all that is bitwise; none unless a variant declares a tolerance."""
    variants = tolerant_variants(result)
    if variants:
        yield from (_tolerance_table(result, variants, case) for case in result.cases)


def _tolerance_table(result: Result, variants: Sequence[str], case: str) -> Table:
    """A row per stage, variant, and what it is held against: the first variant, and the one before it."""
    checks = {check.candidate: check for check in result.identity if check.case == case}
    rows = [
        (stage_text(stage), variant, *texts, _distance_cell(checks.get(variant)))
        for stage in result.timed_stages
        for variant in variants
        for texts in _against(result, case, stage, variant)
    ]
    headers = ("before (ms)", "after (ms)", *PAIR_HEADERS, "distance")
    worst = f"distance is that of the worst run from {result.named[0]}, rounded to the far side"
    return Table(
        title=f"{place_text(result)}: declared tolerance at {case}",
        columns=(
            *(Column(header=header) for header in ("stage", "variant", "against")),
            *(Column(header=header, numeric=True) for header in headers),
        ),
        rows=tuple(rows),
        caption=changes_caption(result, variants, rows, worst, case=case),
    )


def _against(result: Result, case: str, stage: str, variant: str) -> Iterator[tuple[str, ...]]:
    """The name, both medians and the two changes, from the first variant and from the one before where that differs."""
    first, after = result.named[0], cell_of(result, case, stage, variant)
    for name in dict.fromkeys((first, result.named[result.named.index(variant) - 1])):
        medians = median_text(cell_of(result, case, stage, name)), median_text(after)
        deltas = result.deltas if name == first else result.steps
        yield name, *medians, *_pair_texts(result, deltas, case, stage, name, variant)


def tolerance_lines(result: Result) -> Iterator[str]:
    """How far each variant with a tolerance is from the first's output."""
    for check in result.identity:
        if check.tolerance is not None:
            limit = f"{check.tolerance.limit:g}{check.tolerance.unit}"
            asked = f"{limit} asked for, {counted(check.num_runs, 'run')}"
            yield f"- {check.candidate} at {check.case}: {_distance_text(check, result.outline.noun)}; {asked}"


def distance_text(check: IdentityCheck) -> str:
    """How far the worst run was, as ``PSNR 50.8 dB``; nothing where all had the reference's values."""
    tolerance = check.tolerance
    if tolerance is None or check.distance is None:
        return ""
    return f"{NAMES[tolerance.kind]} {tolerance.text(check.distance)}{tolerance.unit}"


def _distance_cell(check: IdentityCheck | None) -> str:
    """The worst distance, with the limit where it is beyond that."""
    if check is None:
        return NONE
    tolerance = check.tolerance
    if check.distance is None or tolerance is None:
        return "identical" if check.identical else "same values"
    side = "under" if tolerance.kind == "psnr" else "over"
    return distance_text(check) if check.is_ok else f"{distance_text(check)} ({side} {tolerance.limit:g})"


def _distance_text(check: IdentityCheck, noun: str) -> str:
    text = distance_text(check)
    if not text:
        same = f"{noun} identical to {check.reference}'s"
        return same if check.identical else f"same values as {check.reference}'s {noun}, in other bytes"
    assert check.tolerance is not None
    name = NAMES[check.tolerance.kind]
    bound = "at least" if check.tolerance.kind == "psnr" else "at most"
    head = f"{name} against {check.reference} {bound} {text.removeprefix(name).strip()}"
    what = "differing pixel" if noun == "picture" else "differing value"
    return head if check.num_differing is None else f"{head}, at most {counted(check.num_differing, what)}"
