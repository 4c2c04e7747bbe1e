"""``trace``: says of recorded traces, of one rank or several, alone or against others, why the GPU was idle."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.commands.common import (
    check_json_path,
    check_outputs,
    json_file,
    stream_for_people,
    writable,
    write_json,
)
from bagel_perf.commands.report import is_foreign, making_page, warn_of_size
from bagel_perf.records.errors import UsageError
from bagel_perf.records.store import write_text, writing
from bagel_perf.records.trace_ranks import RanksReport
from bagel_perf.records.traces import TraceReport
from bagel_perf.report.progress import ReadingView
from bagel_perf.report.ranks import print_ranks
from bagel_perf.report.trace_summary import print_trace
from bagel_perf.traces.against import difference
from bagel_perf.traces.analyse import analyse, shortened
from bagel_perf.traces.formats.reading import STDIN, read_trace
from bagel_perf.traces.ranks import compare_ranks, ranked

ENDINGS = ".json and .sqlite, packed or not"
MAX_NAMED = 5
_IS_TRACE = re.compile(r"(?i).+\.(json|sqlite3?|db)(\.(gz|bz2|xz|zst|zip))?")


def trace_files(paths: Sequence[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """The files, each folder replaced by the traces in it in the order of their numbers, and notes on what was left.

    Raises ``UsageError`` for a folder without traces, one that cannot be read, and a file that is named twice.
    """
    files: list[Path] = []
    notes: list[str] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found, note = _of_folder(path)
        files += found
        notes += note
    seen: dict[Path, Path] = {}
    for file in files:
        if (real := file.resolve()) in seen:
            raise UsageError("trace is named twice", value=file, remedy="name it once")
        seen[real] = file
    return files, tuple(notes)


def _of_folder(folder: Path) -> tuple[list[Path], list[str]]:
    try:
        entries = sorted(folder.iterdir(), key=lambda each: natural(each.name))
    except OSError as problem:
        raise UsageError("folder cannot be read", value=folder, allowed=problem.strerror or str(problem)) from problem
    found = [each for each in entries if _IS_TRACE.fullmatch(each.name) and each.is_file()]
    if not found:
        allowed = f"files that end in {ENDINGS}"
        raise UsageError("folder has no trace", value=folder, allowed=allowed, remedy="name a file, or another folder")
    others = [each.name for each in entries if each not in found]
    if not others:
        return found, []
    more = f" and {len(others) - MAX_NAMED} more" * (len(others) > MAX_NAMED)
    return found, [f"left aside in the folder: {', '.join(others[:MAX_NAMED])}{more}"]


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """A key by which ``rank2`` comes before ``rank10``."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part)


SMALLER = "record a shorter stretch, or show fewer rows"


def check_page(path: Path | None, json_path: str | None, inputs: Sequence[Path]) -> None:
    """Raises ``UsageError`` before anything is read if an output would replace an input, or what is not ours."""
    check_outputs({"--html": path, "--json": json_file(json_path)}, inputs)
    if path is None:
        return
    remedy = "choose another --html"
    if path == Path("-"):
        raise UsageError("--html needs a file", value=path, allowed="only --json goes to stdout", remedy=remedy)
    writable(path, "--html")
    with writing(path):
        if path.is_file() and is_foreign(path):
            raise UsageError("a file that is not ours is in the way", value=path, remedy=f"remove it, or {remedy}")


def write_trace_page(report: TraceReport, path: Path, top: int) -> None:
    """Writes the page of one trace."""
    # Imported here: jinja2 and matplotlib are for pages alone.
    from bagel_perf.report.html.page import page_html
    from bagel_perf.report.html.trace_page import trace_page

    with making_page([Path(report.source.file)]):
        text = page_html(trace_page(report, top))
    write_text(path, text)
    warn_of_size(text, SMALLER)


def write_ranks_page(report: RanksReport, path: Path, top: int) -> None:
    """Writes the page of several ranks."""
    from bagel_perf.report.html.page import page_html
    from bagel_perf.report.html.trace_page import ranks_page

    with making_page([Path(each.report.source.file) for each in report.ranks]):
        text = page_html(ranks_page(report, top))
    write_text(path, text)
    warn_of_size(text, SMALLER)


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
