"""Cells and deltas of a result: finding them, their texts, and those of where and how often they were measured."""

from __future__ import annotations

from collections.abc import Iterable

from bagel_perf.report.table import NONE
from bagel_perf.schema.results import Cell, Delta, Result
from bagel_perf.schema.slots import Stage


def resolutions(result: Result) -> tuple[int | str, ...]:
    """In the order of the result."""
    return tuple(dict.fromkeys(cell.res for cell in result.cells))


def tolerant_variants(result: Result) -> tuple[str, ...]:
    """Of the named variants, those whose picture is held to the first's by a declared tolerance."""
    tolerant = {check.candidate for check in result.identity if check.min_psnr_db is not None}
    return tuple(variant for variant in result.variants[1:] if variant in tolerant)


def bitwise_variants(result: Result) -> tuple[str, ...]:
    """The first of the named variants, and those whose picture has to be the same to the bit."""
    apart = tolerant_variants(result)
    return tuple(variant for variant in result.variants if variant not in apart)


def cell_of(result: Result, res: int | str, stage: Stage, variant: str) -> Cell | None:
    found = (c for c in result.cells if (c.res, c.stage, c.variant) == (res, stage, variant))
    return next(found, None)


def delta_of(deltas: Iterable[Delta], res: int | str, stage: Stage, candidate: str) -> Delta | None:
    found = (d for d in deltas if (d.res, d.stage, d.candidate) == (res, stage, candidate))
    return next(found, None)


def median_text(cell: Cell | None) -> str:
    return NONE if cell is None or cell.median_ms is None else f"{cell.median_ms:.1f}"


def syncs_text(cell: Cell | None) -> str:
    return NONE if cell is None or cell.host_syncs is None else str(cell.host_syncs)


def launches_text(cell: Cell | None) -> str:
    return NONE if cell is None or cell.launches is None else str(cell.launches)


def peak_text(cell: Cell | None) -> str:
    """GiB."""
    return NONE if cell is None or cell.peak_bytes is None else f"{cell.peak_bytes / 2**30:.2f}"


def change_text(delta: Delta | None) -> str:
    """Percent, with the interval where there is one."""
    if delta is None:
        return NONE
    interval = "" if delta.ci_pct is None else f" ({delta.ci_pct[0]:+.1f} to {delta.ci_pct[1]:+.1f})"
    return f"{delta.delta_pct:+.1f}%{interval}"


def place_text(result: Result) -> str:
    """What was timed where; a CPU says that its latency predicts nothing about a GPU."""
    environment = result.environment
    place = f"Latency on {environment.device_name}"
    if environment.device_kind == "cpu":
        place = "CPU latency (predicts nothing about a GPU)"
    return f"{place}, {environment.preset} preset"


def rounds_text(result: Result) -> str:
    return f"medians of {result.pairs} round{'s' * (result.pairs != 1)}; delta is the median of the paired ratios"
