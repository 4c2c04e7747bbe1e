"""Results as Markdown, with the very cells of the text tables."""

from __future__ import annotations

from bagel_perf.report.tables import Table, result_tables
from bagel_perf.schema.results import Result


def result_markdown(result: Result) -> str:
    """The tables of a comparison."""
    return "\n\n".join(table_markdown(table) for table in result_tables(result))


def table_markdown(table: Table) -> str:
    """A table with its title above and its caption below."""
    rule = ["---:" if column.numeric else "---" for column in table.columns]
    rows = [[column.header for column in table.columns], rule, *table.rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    head = [f"**{table.title}**", ""]
    return "\n".join([*head, *lines, *(["", f"_{table.caption}_"] if table.caption else [])])
