"""Tables as plain data, which text and Markdown render alike.

A table holds finished strings: every number is formatted here, once, so that no two renderings can disagree.
"""

from __future__ import annotations

from bagel_perf.analysis.stats import MIN_PROCESSES
from bagel_perf.analysis.verify import tensor_groups
from bagel_perf.analysis.work import busy_share
from bagel_perf.report.ablation_tables import ablation_tables
from bagel_perf.report.captions import changes_caption, place_text
from bagel_perf.report.cells import (
    bitwise_variants,
    cell_of,
    delta_of,
    median_text,
    noise_columns,
    noise_texts,
    peak_text,
    syncs_text,
    tolerant_variants,
    verdict_text,
)
from bagel_perf.report.condition_tables import condition_tables
from bagel_perf.report.floor_tables import floor_tables
from bagel_perf.report.ladder_tables import ladder_tables
from bagel_perf.report.table import NONE, Column, Table, counted, stage_text
from bagel_perf.report.tolerance_tables import tolerance_tables
from bagel_perf.schema.outlines import WHOLE
from bagel_perf.schema.results import Cell, Delta, IdentityCheck, Result
from bagel_perf.schema.verification import Verification

SYNC_CAPTIONS = {"cuda": "counted by CUDA callbacks", "simulated": "counted on a simulated device", None: "not counted"}


def result_tables(result: Result) -> tuple[Table, ...]:
    """Latency of each candidate against the first variant or as a ladder, counts, floors, identity of the outputs."""
    ladder = tuple(ladder_tables(result))
    latency = ladder or tuple(latency_table(result, candidate) for candidate in bitwise_variants(result)[1:])
    work = (work_table(result),) if any(cell.work for cell in result.cells) else ()
    counts = (sync_table(result), *work, *condition_tables(result), *floor_tables(result))
    return (*latency, *tolerance_tables(result), *ablation_tables(result), *counts, identity_table(result))


def latency_table(result: Result, candidate: str) -> Table:
    """Before and after as medians, the change as the median of paired ratios with its interval."""
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
    headers = ("before (ms)", "after (ms)", "delta (%)", "interval (%)")
    numbers = (Column(header=header, numeric=True) for header in headers)
    return (*numbers, *noise_columns(result), Column(header="verdict"))


def change_cells(result: Result, case: str, stage: str, candidate: str) -> tuple[str, ...]:
    """Medians of the first variant and of a candidate, the change between them, the noise and the verdict."""
    medians = (median_text(cell_of(result, case, stage, name)) for name in (result.named[0], candidate))
    delta = delta_of(result.deltas, case, stage, candidate)
    return (*medians, *_delta_texts(delta), *noise_texts(result, case, stage), verdict_text(delta))


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
        caption="counted in a profiled run; a graph's replay is one launch; busy: share of the median latency",
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
        caption=f"{hashes}, on every run of the same seed" + f"; {differing}: in any of them at most" * has_pixels,
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
        caption="relative L2 norm; mean difference of grey levels for uint8; difference for integers",
    )


def sync_caption(result: Result) -> str:
    devices = {cell.sync_device for cell in result.cells} - {None}
    return "; ".join(SYNC_CAPTIONS[device] for device in sorted(devices, key=str) or [None])


def _delta_texts(delta: Delta | None) -> tuple[str, str]:
    if delta is None:
        return NONE, NONE
    interval = f"{counted(delta.num_processes, 'process')}, {MIN_PROCESSES} needed"
    if delta.ci_pct is not None:
        interval = f"{delta.ci_pct[0]:+.1f} to {delta.ci_pct[1]:+.1f}"
    return f"{delta.delta_pct:+.1f}", interval
