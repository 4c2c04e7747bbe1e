"""Results as Markdown, with the very cells of the text tables."""

from __future__ import annotations

from pathlib import Path

from bagel_perf.report.inert import markdown, markdown_line
from bagel_perf.report.provenance import provenance_line
from bagel_perf.report.summary import verdict_lines
from bagel_perf.report.table import Table
from bagel_perf.report.tables import result_tables
from bagel_perf.schema.results import Result
from bagel_perf.schema.store import writing

SUMMARY_FILE = "summary.md"


def result_markdown(result: Result) -> str:
    """The tables of a comparison."""
    return "\n\n".join(table_markdown(table) for table in result_tables(result))


def write_summary(result: Result, folder: Path) -> None:
    """Writes ``summary.md``, ready for the comment of a pull request."""
    path = folder / SUMMARY_FILE
    with writing(path):
        path.write_text(summary_markdown(result), encoding="utf-8")


def summary_markdown(result: Result) -> str:
    """The tables, the verdict with what else there is to say, and where all of it comes from."""
    parts = (result_markdown(result), verdict_markdown(result), provenance_line(result))
    return "\n\n".join(parts) + "\n"


def verdict_markdown(result: Result) -> str:
    """The verdict, and below it the list of what else there is to say."""
    head, *rest = verdict_lines(result)
    items = [f"- {markdown_line(line.removeprefix('- '))}" for line in rest]
    return "\n".join([markdown_line(head), "", *items] if items else [markdown_line(head)])


def table_markdown(table: Table) -> str:
    """A table with its title above and its caption below."""
    rule = ["---:" if column.numeric else "---" for column in table.columns]
    cells = [[column.header for column in table.columns], *table.rows]
    head, *rows = ("| " + " | ".join(map(markdown, row)) + " |" for row in cells)
    lines = [f"**{markdown(table.title)}**", "", head, "| " + " | ".join(rule) + " |", *rows]
    return "\n".join([*lines, *(["", f"_{markdown(table.caption)}_"] if table.caption else [])])
