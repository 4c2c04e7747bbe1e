"""What a page is made of: results, reports of ``syncs``, ``trace`` and ``gate``, and traces, told apart by content."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bagel_perf.records.errors import UsageError
from bagel_perf.records.gates import SCHEMA as GATE_SCHEMA
from bagel_perf.records.gates import GateReport
from bagel_perf.records.results import is_result
from bagel_perf.records.store import GZIP_MAGIC, unpacked_json
from bagel_perf.records.syncs import SyncReport
from bagel_perf.records.trace_ranks import SCHEMA as RANKS_SCHEMA
from bagel_perf.records.trace_ranks import RanksReport
from bagel_perf.records.traces import SCHEMA as TRACE_SCHEMA
from bagel_perf.records.traces import TraceReport
from bagel_perf.report.html.profiles import report_in
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats.reading import read_trace

_T = TypeVar("_T")

HEAD = 2000
TRACE_MARK = b'"traceEvents"'
"""Bytes in which a file of ours has said what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Paths of results; reports of ``syncs``, profiled or not; analysed traces, also of ranks together; of gates.

    Each in the order of their paths.
    """

    results: tuple[Path, ...]
    syncs: tuple[SyncReport, ...]
    traces: tuple[TraceReport, ...]
    ranks: tuple[RanksReport, ...] = ()
    gates: tuple[GateReport, ...] = ()

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
    ranks: list[RanksReport] = []
    gates: list[GateReport] = []
    for path in dict.fromkeys(paths):
        head = _head(path)
        if not head or _is_result(path) or _is_unfinished(path):
            results.append(path)
        elif (report := report_in(path)) is not None:
            syncs.append(report)
        elif f'"{TRACE_SCHEMA}"'.encode() in head:
            traces.append(_read(path, TraceReport.from_json, "report of a trace"))
        elif f'"{RANKS_SCHEMA}"'.encode() in head:
            ranks.append(_read(path, RanksReport.from_json, "report of ranks"))
        elif f'"{GATE_SCHEMA}"'.encode() in head:
            gates.append(_read(path, GateReport.from_json, "report of a gate"))
        else:
            found = next(_trace(path, is_trace=TRACE_MARK in head), None)
            results += [path] if found is None else []
            traces += [] if found is None else [found]
    return Inputs(
        results=tuple(results), syncs=tuple(syncs), traces=tuple(traces), ranks=tuple(ranks), gates=tuple(gates)
    )


def _read(path: Path, read: Callable[[Any], _T], what: str) -> _T:
    """What is in a file of ours that says what it is; ``UsageError`` with the file where it is damaged."""
    try:
        return read(unpacked_json(path))
    except ValueError as problem:
        raise UsageError(f"{what} is not usable", value=path, allowed=str(problem)) from problem


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


def _trace(path: Path, *, is_trace: bool) -> Iterator[TraceReport]:
    """The trace in a file, where it is one; raises ``UsageError`` where it ``is_trace``, and cannot be read."""
    try:
        yield analyse(read_trace(path))
    except UsageError:
        if is_trace:
            raise
