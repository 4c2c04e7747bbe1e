"""What stands in the title and below a latency table: where, over how many rounds, and how sure the changes are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from bagel_perf.analysis.rounds import e2e_is_apart
from bagel_perf.analysis.stats import coverage, stopped_coverage
from bagel_perf.report.table import counted, stage_text
from bagel_perf.schema.results import Result
from bagel_perf.schema.runs import TimedRun, runs_of

UNSHOWN = "?"
"""Marks a change that is not shown: its interval holds 0, or the joint test of the table does not exclude 0."""


def place_text(result: Result) -> str:
    """What was timed where; a CPU says that its latency predicts nothing about a GPU."""
    environment = result.environment
    place = f"Latency on {environment.device_name}"
    if environment.device_kind == "cpu":
        place = "CPU latency (predicts nothing about a GPU)"
    return f"{place}, {result.subject.title}"


def changes_caption(
    result: Result,
    variants: Sequence[str],
    rows: Iterable[Sequence[str]],
    *more: str,
    case: str | None = None,
) -> str:
    """How the medians and changes of these variants came about, then ``more``, then what the mark in ``rows`` means.

    Counts the rounds that were run, which after an early end are fewer than were planned.
    """
    cells = [cell for cell in result.cells if cell.variant in variants and case in (None, cell.case)]
    deltas = [
        each for each in (*result.deltas, *result.steps) if each.candidate in variants and case in (None, each.case)
    ]
    is_marked = any(f"%{UNSHOWN} " in text for row in rows for text in row)
    parts = (
        rounds_text({len(cell.latency_ms) for cell in cells if cell.latency_ms}, result.pairs),
        counted(len({run.process for run in runs_of(TimedRun, result.runs)}), "process"),
        "delta is the median over processes of the paired ratios' medians",
        coverage_text({delta.num_processes for delta in deltas if delta.ci_pct is not None}, result.looks),
        joint_text(result),
        "e2e: runs of its own" if e2e_is_apart(result.runs) else "",
        noise_text(result, case),
        *more,
        f"{UNSHOWN}: no difference shown" if is_marked else "",
    )
    return "; ".join(part for part in parts if part)


def noise_text(result: Result, case: str | None = None) -> str:
    """What noise means; with ``case``, for a table that has no column of it, its figures too."""
    found = [each for each in result.noise if each.case == case and each.floor_pct is not None]
    figures = ", ".join(f"{stage_text(each.stage)} {each.floor_pct:.1f}%" for each in found)
    head = f"noise {figures}" if figures else "noise"
    what = f"{result.named[0]} against itself in the same processes, half its interval"
    return f"{head}: {what}" if result.noise else ""


def joint_text(result: Result) -> str:
    """For how many changes together verdicts hold; nothing where none has one."""
    number = sum(delta.ci_pct is not None for delta in result.deltas)
    return f"verdicts hold for all {number} changes of the result together, 5% error" if number > 1 else ""


def rounds_text(numbers: Collection[int], planned: int) -> str:
    """Over how many rounds medians were taken, of the planned ones where those are more."""
    if not numbers:
        return "no round was timed"
    low, high = min(numbers), max(numbers)
    if low == high == planned:
        return f"medians of {counted(planned, 'round')}"
    return f"medians of {low if low == high else f'{low} to {high}'} of {counted(planned, 'round')}"


def coverage_text(numbers: Collection[int], looks: Sequence[int] = ()) -> str:
    """How often intervals of these numbers of processes hold what they claim to; nothing where there are none.

    A run that stopped after one of its ``looks`` may have stopped by luck, so all looks count.
    """
    if not numbers:
        return ""
    if looks:
        return f"each interval by itself covers {100 * stopped_coverage(looks):.1f}% or more, as the run chose its end"
    texts = [f"{100 * share:.1f}" for share in sorted(map(coverage, numbers))]
    exact = texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"
    return f"each interval by itself covers {exact}%"
