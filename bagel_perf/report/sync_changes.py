"""The table of what changed from one report of host syncs to another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import TextIO

from bagel_perf.report.table import Column, Table, counted
from bagel_perf.report.text import print_document
from bagel_perf.schema.sync_differences import SyncChange, SyncDifference
from bagel_perf.schema.waits import HINTS


def print_changes(difference: SyncDifference, stream: TextIO, *, top: int) -> None:
    """Prints at most ``top`` places whose number changed, and both totals."""
    tables = [change_table(difference, top)] if difference.changes else []
    print_document(stream, tables, change_lines(difference))


def change_table(difference: SyncDifference, top: int) -> Table:
    """The places that changed, what is new first."""
    more = len(difference.changes) - top
    return Table(
        title=f"Host syncs of {difference.after} against {difference.before}",
        columns=(Column(header="change"), Column(header="count", numeric=True), Column(header="where")),
        rows=tuple(map(_row, difference.changes[:top])),
        caption=f"{counted(more, 'place')} more (--top)" if more > 0 else "",
    )


def _row(change: SyncChange) -> tuple[str, ...]:
    place = f"{PurePath(change.file)}:{change.line} {change.function}" if change.file else "no line of Python"
    lines = [f"{place}  {HINTS[change.kind].label}", *(f"  {text}" for text in change.expressions)]
    lines += [f"unknown: {change.why_unknown}"] if change.why_unknown else []
    return change.change, f"{_text(change.count_before)} -> {_text(change.count_after)}", "\n".join(lines)


def change_lines(difference: SyncDifference) -> Iterator[str]:
    """What limits the comparison, what is the same, and the totals."""
    yield from (f"- {note}" for note in difference.notes)
    if difference.num_same:
        yield f"- the same: {counted(difference.host_syncs_same, 'wait')} at {counted(difference.num_same, 'place')}"
    if not difference.changes:
        yield "- the same waits at the same places"
    yield f"host syncs: {_text(difference.host_syncs_before)} -> {_text(difference.host_syncs_after)}"


def _text(count: int | None) -> str:
    return "unknown" if count is None else str(count)
