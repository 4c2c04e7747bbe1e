"""A table as plain data, and the words, cells and captions that several tables share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from bagel_perf.records.results import Cell, Delta, Result
from bagel_perf.records.runs import TimedRun, runs_of
from bagel_perf.verdicts.judging import e2e_is_apart
from bagel_perf.verdicts.statistics import change_of_medians_pct, coverage, stopped_coverage

UNSHOWN = "?"
"""Marks a change that is not shown: its interval holds 0, or the joint test of the table does not exclude 0."""


def place_text(result: Result) -> str:
    """What was timed where; a CPU says that its latency predicts nothing about a GPU."""
    environment = result.environment
    place = f"Latency on {environment.device_name}"
    if environment.device_kind == "cpu":
        place = "CPU latency (predicts nothing about a GPU)"
    if environment.device_kind == "server":
        place = "Latency of servers, e2e at the client"
    return f"{place}, {result.subject.title}"


MEDIANS_HEADER = "delta of medians (%)"
"""What a reader gets who divides the medians of a table."""
PAIRED_HEADER = "paired change (%)"
"""What verdicts and gates judge."""
APART_PCT = 2.0
"""From how many points between the two on a caption says why they differ."""


def sentences(*parts: str) -> str:
    """The parts that hold something, each as a sentence."""
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts if part)


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
    is_marked = any(f"{UNSHOWN} (" in text for row in rows for text in row)
    return sentences(
        f"{rounds_text({len(cell.latency_ms) for cell in cells if cell.latency_ms}, result.pairs)}{_processes(result)}",
        *units_texts(result),
        _apart_text(result, deltas),
        coverage_text({delta.num_processes for delta in deltas if delta.ci_pct is not None}, result.looks),
        joint_text(result),
        "the whole (e2e) was timed in runs of its own" if e2e_is_apart(result.runs) else "",
        noise_text(result, case),
        *more,
        f"{UNSHOWN} marks a change that is not shown" if is_marked else "",
    )


def _processes(result: Result) -> str:
    number = len({run.process for run in runs_of(TimedRun, result.runs)})
    return f" in {counted(number, 'process')}" if number and result.unit != "round" else ""


def units_texts(result: Result) -> tuple[str, ...]:
    """What the two changes are; servers are one process each, so their luck is in them."""
    head = "delta of medians is after / before - 1 of the medians"
    if result.unit == "round":
        paired = "paired change is the median of the ratios within a round, and verdicts judge it"
        return head, paired, "it holds for these processes alone, as each server is one"
    return head, "paired change is the median over processes of the ratios within a round, and verdicts judge it"


def _apart_text(result: Result, deltas: Iterable[Delta]) -> str:
    """Why the two changes differ, where they do so by more than a reader overlooks."""
    apart = max((gap for each in deltas if (gap := _apart_pct(result, each)) is not None), default=0.0)
    if apart < APART_PCT:
        return ""
    what = "medians take all runs together, and the paired change holds only runs of one round against each other"
    return f"the two differ by up to {apart:.0f} points, because {what}"


def _apart_pct(result: Result, delta: Delta) -> float | None:
    before, after = (cell_of(result, delta.case, delta.stage, name) for name in (delta.reference, delta.candidate))
    change = _medians_pct(before, after)
    return None if change is None else abs(change - delta.delta_pct)


def _medians_pct(before: Cell | None, after: Cell | None) -> float | None:
    if before is None or after is None:
        return None
    return change_of_medians_pct(before.median_ms, after.median_ms)


def medians_change_text(before: Cell | None, after: Cell | None) -> str:
    """The change in percent that the medians of two cells give by themselves."""
    change = _medians_pct(before, after)
    return NONE if change is None else f"{change:+.1f}"


def unit_text(result: Result) -> str:
    """What intervals take for independent, as a noun."""
    return "round" if result.unit == "round" else "process"


def noise_text(result: Result, case: str | None = None) -> str:
    """What noise means; with ``case``, for a table that has no column of it, its figures too."""
    if not result.noise:
        return ""
    found = [each for each in result.noise if each.case == case and each.floor_pct is not None]
    figures = ", ".join(f"{stage_text(each.stage)} {each.floor_pct:.1f}%" for each in found)
    place = "in the same rounds" if result.unit == "round" else "in the same processes"
    head = f"noise is half the interval of {result.named[0]} against itself {place}"
    return f"{head}: {figures}" if figures else head


def joint_text(result: Result) -> str:
    """For how many changes together verdicts hold; nothing where none has one."""
    number = sum(delta.ci_pct is not None for delta in result.deltas)
    return f"verdicts hold for all {number} changes of the result together, with 5% error" if number > 1 else ""


def rounds_text(numbers: Collection[int], planned: int) -> str:
    """Over how many rounds medians were taken, of the planned ones where those are more."""
    if not numbers:
        return "no round was timed"
    low, high = min(numbers), max(numbers)
    if low == high == planned:
        return f"medians are of {counted(planned, 'round')}"
    return f"medians are of {low if low == high else f'{low} to {high}'} of {counted(planned, 'round')}"


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


LABELS = {"ar": "AR", "dit": "DiT"}
"""Of stages whose names are abbreviations."""
NONE = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A header, with the unit; numbers stand to the right."""

    header: str
    numeric: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of finished strings, each as long as ``columns``."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


def stage_text(stage: str) -> str:
    """The name of a stage as tables show it."""
    return LABELS.get(stage, stage)


def counted(number: int, noun: str) -> str:
    """``1 round``, ``2 rounds``, ``2 processes``."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{plural * (number != 1)}"


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([*([", ".join(words[:-1])] if len(words) > 1 else []), *words[-1:]])


def ms_text(value: float | None) -> str:
    """Milliseconds, where they were measured."""
    return NONE if value is None else f"{value:.1f}"


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
    return NONE if cell is None or cell.median_ms is None else divisible_text(cell.median_ms)


def divisible_text(ms: float) -> str:
    """Milliseconds with four digits or more, so that a reader who divides two gets the change that is printed."""
    return f"{ms:.{1 if ms >= 100 else 2 if ms >= 10 else 3 if ms >= 1 else 4}f}"


def syncs_text(cell: Cell | None) -> str:
    return NONE if cell is None or cell.host_syncs is None else str(cell.host_syncs)


def peak_text(cell: Cell | None) -> str:
    """GiB."""
    return NONE if cell is None or cell.peak_bytes is None else f"{cell.peak_bytes / 2**30:.2f}"


def change_text(delta: Delta | None, unit: str = "process", sign: str = "%") -> str:
    """The paired change with its interval, marked where that holds 0; without one, the units that were too few for it.

    ``sign`` is "" where a header has the unit.
    """
    if delta is None:
        return NONE
    change = f"{delta.delta_pct:+.1f}{sign}"
    if delta.ci_pct is None:
        return f"{change} ({counted(delta.num_processes, unit)})"
    mark = UNSHOWN * (delta.verdict == "no difference shown")
    return f"{change}{mark} ({delta.ci_pct[0]:+.1f} to {delta.ci_pct[1]:+.1f})"


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
    return f"{delta.verdict}, {counted(delta.num_excluded, 'pair')} excluded" if delta.num_excluded else delta.verdict
