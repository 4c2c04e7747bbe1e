"""Cells and deltas of a result: finding them, and their texts."""

from __future__ import annotations

from collections.abc import Iterable

from bagel_perf.report.captions import UNSHOWN
from bagel_perf.report.table import NONE, Column, counted, ms_text
from bagel_perf.schema.results import Cell, Delta, Result


def tolerant_variants(result: Result) -> tuple[str, ...]:
    """Of the named variants after the first, those that declare a tolerance, whether or not they came to run."""
    return tuple(each.name for each in result.variants[1 : result.num_named] if each.tolerance is not None)


def bitwise_variants(result: Result) -> tuple[str, ...]:
    """The first of the named variants, and those whose output has to be the same to the bit."""
    apart = tolerant_variants(result)
    return tuple(variant for variant in result.named if variant not in apart)


def cell_of(result: Result, case: str, stage: str, variant: str) -> Cell | None:
    found = (c for c in result.cells if (c.case, c.stage, c.variant) == (case, stage, variant))
    return next(found, None)


def delta_of(deltas: Iterable[Delta], case: str, stage: str, candidate: str) -> Delta | None:
    found = (d for d in deltas if (d.case, d.stage, d.candidate) == (case, stage, candidate))
    return next(found, None)


def median_text(cell: Cell | None) -> str:
    return ms_text(None if cell is None else cell.median_ms)


def syncs_text(cell: Cell | None) -> str:
    return NONE if cell is None or cell.host_syncs is None else str(cell.host_syncs)


def launches_text(cell: Cell | None) -> str:
    return NONE if cell is None or cell.launches is None else str(cell.launches)


def peak_text(cell: Cell | None) -> str:
    """GiB."""
    return NONE if cell is None or cell.peak_bytes is None else f"{cell.peak_bytes / 2**30:.2f}"


def change_text(delta: Delta | None) -> str:
    """Percent with the interval, marked where that holds 0; without one, the processes that were too few for it."""
    if delta is None:
        return NONE
    if delta.ci_pct is None:
        return f"{delta.delta_pct:+.1f}% ({counted(delta.num_processes, 'process')})"
    mark = UNSHOWN * (delta.verdict == "no difference shown")
    return f"{delta.delta_pct:+.1f}%{mark} ({delta.ci_pct[0]:+.1f} to {delta.ci_pct[1]:+.1f})"


def noise_floor_of(result: Result, case: str, stage: str) -> float | None:
    """Half the interval of the first variant against itself, in percent."""
    found = (each.floor_pct for each in result.noise if (each.case, each.stage) == (case, stage))
    return next(found, None)


def noise_columns(result: Result) -> tuple[Column, ...]:
    """One where the first variant was timed against itself."""
    return (Column(header="noise (%)", numeric=True),) if result.noise else ()


def noise_texts(result: Result, case: str, stage: str) -> tuple[str, ...]:
    """Half the interval of the first variant against itself, for each of ``noise_columns``."""
    floor_pct = noise_floor_of(result, case, stage)
    text = NONE if floor_pct is None else f"{floor_pct:.1f}"
    return (text,) * len(noise_columns(result))


def verdict_text(delta: Delta | None) -> str:
    """The verdict, and how many pairs the conditions took away."""
    if delta is None:
        return "not judged"
    return f"{delta.verdict}, {counted(delta.num_dropped, 'pair')} dropped" if delta.num_dropped else delta.verdict
