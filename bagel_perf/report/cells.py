"""Cells and deltas of a result: finding them, and their texts."""

from __future__ import annotations

from collections.abc import Iterable

from bagel_perf.report.captions import UNSHOWN
from bagel_perf.report.table import NONE, Column, counted, ms_text
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.results import Cell, Delta, Result
from bagel_perf.schema.slots import Stage
from bagel_perf.schema.variants import parse_variant


def resolutions(result: Result) -> tuple[int | str, ...]:
    """In the order of the result."""
    return tuple(dict.fromkeys(cell.res for cell in result.cells))


def tolerant_variants(result: Result) -> tuple[str, ...]:
    """Of the named variants after the first, those that declare a tolerance, whether or not they came to run."""
    return tuple(variant for variant in result.variants[1:] if _declares_tolerance(result, variant))


def bitwise_variants(result: Result) -> tuple[str, ...]:
    """The first of the named variants, and those whose picture has to be the same to the bit."""
    apart = tolerant_variants(result)
    return tuple(variant for variant in result.variants if variant not in apart)


def _declares_tolerance(result: Result, variant: str) -> bool:
    try:
        return parse_variant(variant).min_psnr_db is not None
    except UsageError:  # a name of another version means what was recorded with it
        return any(check.min_psnr_db is not None for check in result.identity if check.candidate == variant)


def cell_of(result: Result, res: int | str, stage: Stage, variant: str) -> Cell | None:
    found = (c for c in result.cells if (c.res, c.stage, c.variant) == (res, stage, variant))
    return next(found, None)


def delta_of(deltas: Iterable[Delta], res: int | str, stage: Stage, candidate: str) -> Delta | None:
    found = (d for d in deltas if (d.res, d.stage, d.candidate) == (res, stage, candidate))
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


def noise_floor_of(result: Result, res: int | str, stage: Stage) -> float | None:
    """Half the interval of the first variant against itself, in percent."""
    found = (each.floor_pct for each in result.noise if (each.res, each.stage) == (res, stage))
    return next(found, None)


def noise_columns(result: Result) -> tuple[Column, ...]:
    """One where the first variant was timed against itself."""
    return (Column(header="noise (%)", numeric=True),) if result.noise else ()


def noise_texts(result: Result, res: int | str, stage: Stage) -> tuple[str, ...]:
    """Half the interval of the first variant against itself, for each of ``noise_columns``."""
    floor_pct = noise_floor_of(result, res, stage)
    text = NONE if floor_pct is None else f"{floor_pct:.1f}"
    return (text,) * len(noise_columns(result))


def verdict_text(delta: Delta | None) -> str:
    """The verdict, and how many pairs the conditions took away."""
    if delta is None:
        return "not judged"
    return f"{delta.verdict}, {counted(delta.num_dropped, 'pair')} dropped" if delta.num_dropped else delta.verdict
