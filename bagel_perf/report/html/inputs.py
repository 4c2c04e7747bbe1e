"""What a page is made of: results of ``compare``, reports of ``syncs``, and traces, told apart by what is in a file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bagel_perf.records.errors import UsageError
from bagel_perf.records.results import is_result
from bagel_perf.records.store import GZIP_MAGIC, unpacked_json
from bagel_perf.records.syncs import SyncReport
from bagel_perf.records.traces import SCHEMA as TRACE_SCHEMA
from bagel_perf.records.traces import TraceReport
from bagel_perf.report.html.profiles import report_in
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats.reading import read_trace

HEAD = 2000
"""Bytes in which a file of ours has said what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Paths of results; reports of ``syncs``, profiled or not; analysed traces. Each in the order of their paths."""

    results: tuple[Path, ...]
    syncs: tuple[SyncReport, ...]
    traces: tuple[TraceReport, ...]

    @property
    def profiles(self) -> tuple[SyncReport, ...]:
        """The reports whose run was profiled, which have timelines and times."""
        return tuple(report for report in self.syncs if report.profile is not None)


def read_inputs(paths: Sequence[Path]) -> Inputs:
    """Tells files apart; what is nothing of ours and no trace counts as a result, whose reader says why.

    Raises ``UsageError`` with the file where one is damaged.
    """
    results: list[Path] = []
    syncs: list[SyncReport] = []
    traces: list[TraceReport] = []
    for path in dict.fromkeys(paths):
        head = _head(path)
        if not head or _is_result(path) or _is_unfinished(path):
            results.append(path)
        elif (report := report_in(path)) is not None:
            syncs.append(report)
        elif f'"{TRACE_SCHEMA}"'.encode() in head:
            traces.append(_trace_report(path))
        else:
            found = next(_trace(path), None)
            results += [path] if found is None else []
            traces += [] if found is None else [found]
    return Inputs(results=tuple(results), syncs=tuple(syncs), traces=tuple(traces))


def _trace_report(path: Path) -> TraceReport:
    """The report of ``trace`` in a file that says that it is one; ``UsageError`` with the file where it is damaged."""
    try:
        return TraceReport.from_json(unpacked_json(path))
    except ValueError as problem:
        raise UsageError("report of a trace is not usable", value=path, allowed=str(problem)) from problem


def _head(path: Path) -> bytes:
    """The begin of a file, unpacked; nothing of a folder, or where it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(HEAD)
    except OSError:
        return b""
    if not start.startswith(GZIP_MAGIC):
        return start
    with suppress(OSError, EOFError, zlib.error), gzip.open(path, "rb") as packed:
        return packed.read(HEAD)
    return start


def _is_result(path: Path) -> bool:
    try:
        return is_result(path)
    except OSError:
        return True


def _is_unfinished(path: Path) -> bool:
    """Whether a file holds the lines of a run that has not ended."""
    return path.suffix == ".jsonl"


def _trace(path: Path) -> Iterator[TraceReport]:
    """The trace in a file, where it is one."""
    try:
        yield analyse(read_trace(path))
    except UsageError:
        return
