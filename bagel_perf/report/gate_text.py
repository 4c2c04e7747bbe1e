"""The report of a gate for people, for a step summary and as annotations of a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bagel_perf.analysis.gated_cells import interval_text, limit_text, number_text
from bagel_perf.report.inert import markdown, workflow_data, workflow_property
from bagel_perf.report.table import NONE, Column, Table, counted, stage_text
from bagel_perf.schema.gates import VERDICTS, CellState, GatedCell, GateReport
from bagel_perf.schema.plain_text import one_line

MAX_SUMMARY_LINES = 60
MAX_SUMMARY_FINDINGS = 20
MAX_SUMMARY_NOTES = 6
CELL_FRAME = 7
"""Lines of a table of latencies besides its rows: title, head, caption, and the empty ones around them."""
RANK: dict[CellState, int] = {"fail": 0, "inconclusive": 1, "pass": 2}


def gate_lines(report: GateReport) -> Iterator[str]:
    """What was judged, what failed and why, and last the verdict."""
    width = max((len(name) for name, _ in report.checks), default=0)
    yield from (f"{name:<{width}}  {outcome}" for name, outcome in report.checks)
    yield from (one_line(f"note: {note}") for note in report.notes)
    yield from (one_line(f"{VERDICTS[finding.kind]}: {finding.message}") for finding in report.findings)
    number = len(report.findings)
    yield f"gate: {report.verdict}" + (f" ({counted(number, 'finding')})" if number else "")


def gate_tables(report: GateReport) -> tuple[Table, ...]:
    """The latencies that were held to limits, where there are any."""
    return (cell_table(report, report.cells),) if report.cells else ()


def cell_table(report: GateReport, cells: Sequence[GatedCell]) -> Table:
    """Some of the report's cells, a row each."""
    headers = ("before (ms)", "after (ms)", "change", "interval", "limit")
    return Table(
        title=one_line(report.subject),
        columns=(
            *(Column(header=header) for header in ("case", "stage", "variant")),
            *(Column(header=header, numeric=True) for header in headers),
            Column(header="verdict"),
        ),
        rows=tuple(map(_row, cells)),
        caption=_caption(report.cells),
    )


def _row(cell: GatedCell) -> tuple[str, ...]:
    medians = (f"{cell.before_ms:.1f}", f"{cell.after_ms:.1f}")
    change = number_text(cell.change, cell.limit.unit), interval_text(cell) or NONE, limit_text(cell.limit)
    return (cell.case, stage_text(cell.stage), one_line(cell.variant), *medians, *change, cell.verdict)


def _caption(cells: Sequence[GatedCell]) -> str:
    """How the changes came about, and how sure the intervals are."""
    numbers = sorted({cell.num_processes for cell in cells})
    number = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    paired, apart = "change is the median over processes", "change is the median of all pairs of processes of the two"
    dropped = max(cell.num_dropped for cell in cells)
    parts = (
        f"{number} {'process' if numbers == [1] else 'processes'}",
        f"up to {dropped} rounds dropped" if dropped else "",
        paired if cells[0].is_paired else apart,
        "each interval is for its cell by itself" if any(cell.interval for cell in cells) else "",
        f"a fail holds for all {len(cells)} together, 5% error" if len(cells) > 1 else "",
    )
    return "; ".join(part for part in parts if part)


def gate_markdown(report: GateReport) -> str:
    """For $GITHUB_STEP_SUMMARY: the verdict first, then the rest in at most ``MAX_SUMMARY_LINES``."""
    head = [f"### bagel-perf gate: {report.verdict}", "", "| check | outcome |", "| --- | --- |"]
    head += [f"| {_cell(name)} | {_cell(outcome)} |" for name, outcome in report.checks]
    tail = _list([f"**{VERDICTS[each.kind]}**: {_cell(each.message)}" for each in report.findings])
    notes = [f"_{_cell(note)}_" for note in report.notes[:MAX_SUMMARY_NOTES]]
    tail += ["", *"\n\n".join(notes).split("\n")] if notes else []
    room = MAX_SUMMARY_LINES - len(head) - len(tail)
    return "\n".join((*head, *_cells_markdown(report, room), *tail)) + "\n"


def _list(items: Sequence[str]) -> list[str]:
    if not items:
        return []
    more = len(items) - MAX_SUMMARY_FINDINGS
    return ["", *(f"- {item}" for item in items[:MAX_SUMMARY_FINDINGS]), *([f"- and {more} more"] * (more > 0))]


def _cells_markdown(report: GateReport, room: int) -> list[str]:
    """The table in so many lines; where cells are left out, they are those that pass."""
    worst = sorted(report.cells, key=lambda cell: RANK[cell.verdict])[: max(room - CELL_FRAME, 0)]
    if not worst:
        return []
    table = cell_table(report, [cell for cell in report.cells if cell in worst])
    rule = ["---:" if column.numeric else "---" for column in table.columns]
    rows = [[column.header for column in table.columns], rule, *(map(_cell, row) for row in table.rows)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    left = len(report.cells) - len(worst)
    more = [f"and {counted(left, 'cell')} more, none worse"] if left else []
    return ["", f"**{_cell(table.title)}**", "", *lines, "", "; ".join([f"_{_cell(table.caption)}_", *more])]


def workflow_commands(report: GateReport) -> Iterator[str]:
    """A workflow command of GitHub for each finding, at its source line where it has one."""
    for finding in report.findings:
        level = "warning" if finding.kind == "inconclusive" else "error"
        title = workflow_property(f"bagel-perf: {VERDICTS[finding.kind]}")
        place = f"file={workflow_property(finding.file)},line={finding.line}," if finding.file else ""
        yield f"::{level} {place}title={title}::{workflow_data(finding.message)}"


def _cell(text: str) -> str:
    """Text of a result, which may not make Markdown of its own."""
    return markdown(text, always="*_>[")
