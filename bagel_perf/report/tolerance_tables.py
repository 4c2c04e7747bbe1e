"""What lies beyond the ladder by a declared tolerance, and how far its outputs are from the first variant's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bagel_perf.report.captions import changes_caption, place_text
from bagel_perf.report.cells import cell_of, change_text, delta_of, median_text, tolerant_variants
from bagel_perf.report.ladder_tables import STEPS_CAPTION, change_headers
from bagel_perf.report.table import NONE, Column, Table, counted, stage_text
from bagel_perf.schema.results import IdentityCheck, Result
from bagel_perf.schema.tolerances import NAMES


def tolerance_tables(result: Result) -> Iterator[Table]:
    """One, apart from all that is bitwise; none unless a variant declares a tolerance."""
    variants = tolerant_variants(result)
    if variants:
        yield tolerance_table(result, variants)


def tolerance_table(result: Result, variants: Sequence[str]) -> Table:
    """A row per resolution, stage and variant: the change, also from the variant before it, and the worst distance."""
    checks = {(check.case, check.candidate): check for check in result.identity}
    rows = []
    for case in result.cases:
        for stage in result.timed_stages:
            for variant in variants:
                cell, check = cell_of(result, case, stage, variant), checks.get((case, variant))
                step, change = (delta_of(deltas, case, stage, variant) for deltas in (result.steps, result.deltas))
                place = case, stage_text(stage), variant
                rows.append((*place, median_text(cell), change_text(step), change_text(change), _distance_cell(check)))
    worst = f"distance: worst of all runs against {result.named[0]}, rounded to the far side"
    return Table(
        title=f"{place_text(result)}: declared tolerance",
        columns=(
            Column(header="case"),
            Column(header="stage"),
            Column(header="variant"),
            *(Column(header=header, numeric=True) for header in ("ms", *change_headers(result), "distance")),
        ),
        rows=tuple(rows),
        caption=changes_caption(result, variants, rows, "step: from the variant before", STEPS_CAPTION, worst),
    )


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
