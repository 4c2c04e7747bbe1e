"""``trace``: a recorded trace, alone or against another one."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from bagel_perf.analysis.traces.against import difference
from bagel_perf.analysis.traces.analyse import analyse
from bagel_perf.analysis.traces.reading import read_trace
from bagel_perf.analysis.traces.shortening import shortened
from bagel_perf.analysis.traces.unpacking import STDIN
from bagel_perf.commands.common import check_json_path, stream_for_people, write_json
from bagel_perf.report.progress import ReadingView
from bagel_perf.report.trace_text import print_trace
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.traces import TraceReport


def run_trace(file: Path, against: Path | None, *, top: int, json_path: str | None, quiet: bool) -> None:
    """Reads, analyses and prints one trace, and what changed from ``against`` to it."""
    check_json_path(json_path)
    if top < 1:
        raise UsageError("too few rows", value=top, allowed="--top 1 or more")
    if STDIN == file == against:
        raise UsageError("stdin can be read once", value=STDIN, allowed="one of FILE and --against")
    reference = None if against is None else _analysed(against, quiet=quiet)
    report = _analysed(file, quiet=quiet)
    if reference is not None:
        report = dataclasses.replace(report, difference=difference(report, reference))
    report = shortened(report)
    if not quiet:
        print_trace(report, top, stream_for_people(json_path))
    write_json(json_path, report.to_json())


def _analysed(file: Path, *, quiet: bool) -> TraceReport:
    name = "stdin" if file == STDIN else file.name
    with ReadingView(sys.stderr, name, quiet=quiet) as view:
        trace = read_trace(file, view.on_progress)
    return analyse(trace)
