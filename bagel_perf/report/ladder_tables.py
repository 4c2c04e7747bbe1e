"""The ladder, rung by rung."""

from __future__ import annotations

from collections.abc import Iterator

from bagel_perf.report.captions import changes_caption, place_text
from bagel_perf.report.cells import (
    bitwise_variants,
    cell_of,
    change_text,
    delta_of,
    launches_text,
    median_text,
    peak_text,
    syncs_text,
)
from bagel_perf.report.table import Column, Table, stage_text
from bagel_perf.schema.results import Result

STEPS_CAPTION = "steps do not multiply exactly to the whole change, as each is a median of its own"


def ladder_tables(result: Result) -> Iterator[Table]:
    """One a resolution, a row per stage and variant; none unless the ladder was asked for."""
    if result.ladder:
        yield from every_ladder_table(result)


def every_ladder_table(result: Result) -> Iterator[Table]:
    """The same, whether or not it was asked for."""
    yield from (_ladder_table(result, case) for case in result.cases)


def _ladder_table(result: Result, case: str) -> Table:
    variants = bitwise_variants(result)
    rows = []
    for stage in result.timed_stages:
        for variant in variants:
            cell = cell_of(result, case, stage, variant)
            step, change = (delta_of(deltas, case, stage, variant) for deltas in (result.steps, result.deltas))
            counts = syncs_text(cell), launches_text(cell), peak_text(cell)
            rows.append(
                (stage_text(stage), variant, median_text(cell), change_text(step), change_text(change), *counts)
            )
    headers = ("ms", *change_headers(result), "syncs", "launches", "GiB")
    return Table(
        title=f"{place_text(result)}: ladder at {case}",
        columns=(
            Column(header="stage"),
            Column(header="variant"),
            *(Column(header=header, numeric=True) for header in headers),
        ),
        rows=tuple(rows),
        caption=changes_caption(result, variants, rows, STEPS_CAPTION, "GiB: peak memory", case=case),
    )


def change_headers(result: Result) -> tuple[str, str]:
    """Of the change from the variant before, and of that from the first."""
    return "step (interval)", f"from {result.named[0]} (interval)"
