"""Tables for a notebook, as HTML without style of its own; every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

from bagel_perf.report.summary import verdict_lines
from bagel_perf.report.table import Table
from bagel_perf.schema.plain_text import one_line
from bagel_perf.schema.results import Result


def tables_html(tables: Iterable[Table], result: Result) -> str:
    """Renders tables and the verdict of a result."""
    lines = Markup("").join(Markup("<li>{}</li>").format(one_line(line)) for line in verdict_lines(result))
    return Markup("").join([*map(_table_html, tables), Markup("<ul>{}</ul>").format(lines)])


def _table_html(table: Table) -> Markup:
    head = Markup("").join(Markup("<th>{}</th>").format(one_line(column.header)) for column in table.columns)
    rows = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(one_line(cell)) for cell in row))
        for row in table.rows
    )
    parts = (escape(one_line(table.title)), head, rows, escape(one_line(table.caption)))
    body = "<table><caption>{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody></table><p><small>{}</small></p>"
    return Markup(body).format(*parts)
