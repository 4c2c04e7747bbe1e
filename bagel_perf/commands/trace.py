"""``trace``: recorded traces, of one rank or several, alone or against others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.analysis.traces.against import difference
from bagel_perf.analysis.traces.analyse import analyse
from bagel_perf.analysis.traces.ranks import compare_ranks, ranked
from bagel_perf.analysis.traces.reading import read_trace
from bagel_perf.analysis.traces.shortening import shortened
from bagel_perf.analysis.traces.unpacking import STDIN
from bagel_perf.commands.common import check_json_path, stream_for_people, write_json
from bagel_perf.commands.trace_inputs import trace_files
from bagel_perf.commands.trace_page import check_page, write_ranks_page, write_trace_page
from bagel_perf.report.progress import ReadingView
from bagel_perf.report.rank_text import print_ranks
from bagel_perf.report.trace_text import print_trace
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.trace_ranks import RanksReport
from bagel_perf.schema.traces import TraceReport


def run_trace(
    paths: Sequence[Path],
    against: Sequence[Path],
    *,
    top: int,
    html: Path | None,
    json_path: str | None,
    quiet: bool,
) -> None:
    """Reads, analyses and prints traces, and what changed from ``against`` to them; folders stand for their traces."""
    check_json_path(json_path)
    if top < 1:
        raise UsageError("too few rows", value=top, allowed="--top 1 or more")
    files, notes = trace_files(paths)
    references, more = trace_files(against)
    check_page(html, json_path, [*files, *references])
    if STDIN in files and STDIN in references:
        raise UsageError("stdin can be read once", value=STDIN, allowed="one of FILE and --against")
    if references and (len(files) > 1) != (len(references) > 1):
        counts = f"{len(files)} and {len(references)}"
        raise UsageError("traces cannot be compared", value=counts, allowed="one with one, or as many ranks with ranks")
    if len(files) > 1:
        _several(_ranks(files, references, (*notes, *more), quiet=quiet), top, html, json_path, quiet=quiet)
        return
    reference = _analysed(references[0], quiet=quiet) if references else None
    report = _compared(_analysed(files[0], quiet=quiet), reference)
    report = replace(report, notes=(*report.notes, *notes, *more))
    if html is not None:
        write_trace_page(report, html, top)
    if not quiet:
        print_trace(report, top, stream_for_people(json_path))
    write_json(json_path, report.to_json())


def _several(report: RanksReport, top: int, html: Path | None, json_path: str | None, *, quiet: bool) -> None:
    if html is not None:
        write_ranks_page(report, html, top)
    if not quiet:
        print_ranks(report, top, stream_for_people(json_path))
    write_json(json_path, report.to_json())


def _ranks(files: Sequence[Path], references: Sequence[Path], notes: Sequence[str], *, quiet: bool) -> RanksReport:
    """The traces by rank, one read after the other; of each only its report is kept."""
    before, _ = ranked([_analysed(file, quiet=quiet) for file in references])
    found, more = ranked([_analysed(file, quiet=quiet) for file in files])
    if references and before.keys() != found.keys():
        ranks = " and ".join(", ".join(map(str, each)) for each in (found, before))
        raise UsageError("traces are of unlike ranks", value=ranks, allowed="the same ranks on both sides")
    reports = {rank: _compared(report, before.get(rank)) for rank, report in found.items()}
    return compare_ranks(reports, (*notes, *more))


def _compared(report: TraceReport, reference: TraceReport | None) -> TraceReport:
    """The report with what changed since the reference, cut to what can be shown whole."""
    if reference is not None:
        report = replace(report, difference=difference(report, reference))
    return shortened(report)


def _analysed(file: Path, *, quiet: bool) -> TraceReport:
    name = "stdin" if file == STDIN else file.name
    with ReadingView(sys.stderr, name, quiet=quiet) as view:
        trace = read_trace(file, view.on_progress)
    return analyse(trace)
