"""What stands in the title and below a latency table: where, over how many rounds, and how sure the changes are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from bagel_perf.analysis.rounds import e2e_is_apart
from bagel_perf.analysis.stats import CONFIDENCE, coverage
from bagel_perf.report.table import STAGE_LABELS, counted
from bagel_perf.schema.results import Result

UNSHOWN = "?"
"""Marks a change whose interval holds 0."""


def place_text(result: Result) -> str:
    """What was timed where; a CPU says that its latency predicts nothing about a GPU."""
    environment = result.environment
    place = f"Latency on {environment.device_name}"
    if environment.device_kind == "cpu":
        place = "CPU latency (predicts nothing about a GPU)"
    return f"{place}, {environment.preset} preset"


def changes_caption(
    result: Result,
    variants: Sequence[str],
    rows: Iterable[Sequence[str]],
    *more: str,
    res: int | str | None = None,
) -> str:
    """How the medians and changes of these variants came about, then ``more``, then what the mark in ``rows`` means.

    Counts the rounds that were run, which after an early end are fewer than were planned.
    """
    cells = [cell for cell in result.cells if cell.variant in variants and res in (None, cell.res)]
    deltas = [
        each for each in (*result.deltas, *result.steps) if each.candidate in variants and res in (None, each.res)
    ]
    is_marked = any(f"%{UNSHOWN} " in text for row in rows for text in row)
    parts = (
        rounds_text({len(cell.latency_ms) for cell in cells if cell.latency_ms}, result.pairs),
        "delta is the median of the paired ratios",
        coverage_text({delta.num_pairs for delta in deltas if delta.ci_pct is not None}),
        "e2e: runs of its own" if e2e_is_apart(result.runs) else "",
        noise_text(result, res),
        f"{result.processes} processes" if result.processes > 1 else "",
        *more,
        f"{UNSHOWN}: no difference shown" if is_marked else "",
    )
    return "; ".join(part for part in parts if part)


def noise_text(result: Result, res: int | str | None = None) -> str:
    """What noise means; with ``res``, for a table that has no column of it, its figures too."""
    found = [each for each in result.noise if each.res == res and each.floor_pct is not None]
    figures = ", ".join(f"{STAGE_LABELS[each.stage]} {each.floor_pct:.1f}%" for each in found)
    head = f"noise {figures}" if figures else "noise"
    return f"{head}: {result.variants[0]} against itself, half its interval" if result.noise else ""


def rounds_text(numbers: Collection[int], planned: int) -> str:
    """Over how many rounds medians were taken, of the planned ones where those are more."""
    if not numbers:
        return "no round was timed"
    low, high = min(numbers), max(numbers)
    if low == high == planned:
        return f"medians of {counted(planned, 'round')}"
    return f"medians of {low if low == high else f'{low} to {high}'} of {counted(planned, 'round')}"


def coverage_text(numbers: Collection[int]) -> str:
    """How often intervals from these numbers of rounds hold what they claim to; nothing where there are none."""
    if not numbers:
        return ""
    texts = [f"{100 * share:.1f}" for share in sorted(map(coverage, numbers))]
    exact = texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"
    return f"intervals cover {exact}% ({100 * CONFIDENCE:.0f}% asked for)"
