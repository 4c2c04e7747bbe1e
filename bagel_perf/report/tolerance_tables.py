"""What lies beyond the ladder by a declared tolerance, and how far its pictures are from the first variant's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bagel_perf.analysis.tolerances import psnr_text
from bagel_perf.report.captions import changes_caption, place_text
from bagel_perf.report.cells import cell_of, change_text, delta_of, median_text, resolutions, tolerant_variants
from bagel_perf.report.ladder_tables import STEPS_CAPTION, change_headers
from bagel_perf.report.table import NONE, STAGE_LABELS, Column, Table, counted, res_text
from bagel_perf.schema.results import IdentityCheck, Result
from bagel_perf.schema.slots import STAGES


def tolerance_tables(result: Result) -> Iterator[Table]:
    """One, apart from all that is bitwise; none unless a variant declares a tolerance."""
    variants = tolerant_variants(result)
    if variants:
        yield tolerance_table(result, variants)


def tolerance_table(result: Result, variants: Sequence[str]) -> Table:
    """A row per resolution, stage and variant: the change, also from the variant before it, and the worst PSNR."""
    checks = {(check.res, check.candidate): check for check in result.identity}
    rows = []
    for res in resolutions(result):
        for stage in STAGES:
            for variant in variants:
                cell, check = cell_of(result, res, stage, variant), checks.get((res, variant))
                step, change = (delta_of(deltas, res, stage, variant) for deltas in (result.steps, result.deltas))
                place = res_text(res), STAGE_LABELS[stage], variant
                rows.append((*place, median_text(cell), change_text(step), change_text(change), _psnr_cell(check)))
    psnr = f"PSNR: worst of all runs against {result.variants[0]}, rounded down"
    return Table(
        title=f"{place_text(result)}: declared tolerance",
        columns=(
            Column(header="resolution"),
            Column(header="stage"),
            Column(header="variant"),
            *(Column(header=header, numeric=True) for header in ("ms", *change_headers(result), "PSNR (dB)")),
        ),
        rows=tuple(rows),
        caption=changes_caption(result, variants, rows, "step: from the variant before", STEPS_CAPTION, psnr),
    )


def tolerance_lines(result: Result) -> Iterator[str]:
    """How far each variant with a tolerance is from the first's picture."""
    for check in result.identity:
        if check.min_psnr_db is not None:
            asked = f"{check.min_psnr_db:g} dB asked for, {counted(check.num_runs, 'run')}"
            yield f"- {check.candidate} at {res_text(check.res)}: {_distance_text(check)}; {asked}"


def _psnr_cell(check: IdentityCheck | None) -> str:
    """The worst PSNR, with the limit where it is under that."""
    if check is None:
        return NONE
    if check.psnr_db is None or check.min_psnr_db is None:
        return "identical" if check.identical else "same pixels"
    text = psnr_text(check.psnr_db, check.min_psnr_db)
    return text if check.is_ok else f"{text} (under {check.min_psnr_db:g})"


def _distance_text(check: IdentityCheck) -> str:
    if check.psnr_db is None or check.min_psnr_db is None:
        same = f"picture identical to {check.reference}'s"
        return same if check.identical else f"same pixels as {check.reference}'s picture, other bytes of the PNG"
    psnr = f"PSNR against {check.reference} at least {psnr_text(check.psnr_db, check.min_psnr_db)} dB"
    pixels = check.differing_pixels
    return psnr if pixels is None else f"{psnr}, at most {counted(pixels, 'differing pixel')}"
