"""Widths of a table's columns on a console: headers wrap first, then cells between words, and words only at last."""

from __future__ import annotations

from collections.abc import Iterator

from bagel_perf.report.table import Table

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
