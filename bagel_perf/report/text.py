"""Results for a terminal, as wide as it is, and for a notebook, as HTML without style of its own.

On a terminal headers wrap first, then cells between words, and words only at last.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TextIO, cast

from markupsafe import Markup, escape
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from bagel_perf.records.errors import one_line
from bagel_perf.records.results import Result
from bagel_perf.records.runs import Verification
from bagel_perf.report.inert import Guarded, terminal, terminal_cell
from bagel_perf.report.summary import last_line, verdict_lines, verification_lines
from bagel_perf.report.table import Table
from bagel_perf.report.tables import result_tables, verification_table

LEAST = 6
"""Of a column of words."""
GAP = 2
"""Between two columns."""


def column_widths(table: Table, available: int) -> list[int]:
    """In characters, at most ``available`` with the gaps, unless that would break numbers."""
    room = available - GAP * (len(table.columns) - 1)
    natural, *narrower = _limits(table)
    widths = natural
    for least in narrower:
        widths = _shrunk(widths, least, sum(widths) - room)
    return widths


def _limits(table: Table) -> Iterator[list[int]]:
    """Widths at which nothing wraps, only headers wrap, cells wrap between words, and anything but numbers wraps."""
    columns = [(column.header, [row[i] for row in table.rows]) for i, column in enumerate(table.columns)]
    yield [max(map(len, (header, *cells))) for header, cells in columns]
    yield [max(map(len, (*header.split(), *cells))) for header, cells in columns]
    yield [max(map(len, " ".join((header, *cells)).split())) for header, cells in columns]
    yield [
        max(map(len, cells), default=1) if column.numeric else LEAST
        for column, (_, cells) in zip(table.columns, columns, strict=True)
    ]


def _shrunk(widths: list[int], least: list[int], excess: int) -> list[int]:
    """The widths less ``excess`` in all, or as much of it as ``least`` leaves; the widest give first."""
    widths = list(widths)
    for _ in range(excess):
        able = [i for i, width in enumerate(widths) if width > least[i]]
        if not able:
            break
        widths[max(able, key=lambda i: widths[i])] -= 1
    return widths


PLAIN_COLUMNS = 100
LEAST_COLUMNS = 40
"""A table that is narrower has a letter a line."""


def print_document(stream: TextIO, tables: Iterable[Table], lines: Iterable[str]) -> None:
    """Prints tables, then lines."""
    console = console_for(stream)
    print_tables(console, tables)
    print_lines(console, lines)


def print_result(result: Result, path: Path, stream: TextIO) -> None:
    """Prints the tables of a comparison, its verdict, and where the result file lies."""
    print_document(stream, result_tables(result), (*verdict_lines(result), last_line(result, path)))


def print_verification(verification: Verification, stream: TextIO) -> None:
    """Prints a table per variant, the failing tensors by name, and the verdict."""
    tables = (verification_table(verification, variant) for variant in verification.variants)
    print_document(stream, tables, verification_lines(verification))


def console_for(stream: TextIO) -> Console:
    """A console as wide as the terminal, or as ``COLUMNS`` says; ``PLAIN_COLUMNS`` for a file or pipe."""
    console = Console(file=cast(TextIO, Guarded(stream)), highlight=False)
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        console.width = PLAIN_COLUMNS
    console.width = max(console.width, LEAST_COLUMNS)
    return console


def print_tables(console: Console, tables: Iterable[Table]) -> None:
    """Prints each table with its title and caption."""
    for table in tables:
        rendered = RichTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        widths = column_widths(table, console.width)
        for column, width in zip(table.columns, widths, strict=True):
            side: Literal["left", "right"] = "right" if column.numeric else "left"
            rendered.add_column(Text(terminal_cell(column.header)), justify=side, overflow="fold", width=width)
        for row in table.rows:
            rendered.add_row(*(Text(terminal_cell(cell)) for cell in row))
        console.print(Text(terminal_cell(table.title), style="bold"))
        console.print(rendered, width=max(console.width, sum(widths) + GAP * len(widths)), crop=False)
        if table.caption:
            console.print(Text(terminal_cell(table.caption), style="dim"))
        console.print()


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Prints sentences; indented ones, which explain, with each further line below the first one's text."""
    for line in map(terminal, lines):
        if line.startswith("  ") and len(line) > console.width:
            line = "\n".join(_hanging(line, console.width))
        # Paths are copied from here, so a long line is left to the terminal to break.
        console.print(Text(line), soft_wrap=True)


def _hanging(line: str, width: int) -> list[str]:
    """``  word:  text`` in lines of at most ``width``, unless a word is longer."""
    indent = re.match(r" +\S+ +|", line).end()  # type: ignore[union-attr]
    return textwrap.wrap(line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


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
