"""What ``doctor`` prints: what can be measured, what is there, how to mend it, and last what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from bagel_perf.records.diagnosis import Diagnosis
from bagel_perf.report.table import Column, Table
from bagel_perf.report.text import print_document


def print_diagnosis(diagnosis: Diagnosis, stream: TextIO) -> None:
    """Prints two tables, remedies and the next step."""
    print_document(stream, (measures_table(diagnosis), rows_table(diagnosis)), lines_of(diagnosis))


def measures_table(diagnosis: Diagnosis) -> Table:
    """Lays out what can be measured, a row each."""
    columns = (Column(header="what"), Column(header="how"))
    return Table(title="What can be measured here", columns=columns, rows=tuple(diagnosis.measures.items()))


def rows_table(diagnosis: Diagnosis) -> Table:
    """Lays out what was found, a row each."""
    columns = tuple(Column(header=header) for header in ("what", "state", "found", "what it means"))
    rows = tuple((row.what, row.state, row.found, row.means) for row in diagnosis.rows)
    return Table(title="This machine", columns=columns, rows=rows)


def lines_of(diagnosis: Diagnosis) -> Iterator[str]:
    """Gives the remedy of each row that has one, and the next step."""
    yield from (f"to mend {row.what}: {row.remedy}" for row in diagnosis.rows if row.remedy)
    yield f"next: {diagnosis.next}"
