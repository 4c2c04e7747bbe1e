"""``report`` and ``show``: make pages, Markdown and tables of result files, without running anything."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bagel_perf.commands.common import check_json_path, check_outputs, json_file, stream_for_people, write_json
from bagel_perf.records.bench_files import bench_files, bench_to_json
from bagel_perf.records.errors import BagelPerfError, UsageError
from bagel_perf.records.gates import GateReport
from bagel_perf.records.results import RESULT_FILE, Result, result_file
from bagel_perf.records.store import write_text, writing
from bagel_perf.report.bench_tables import bench_lines, bench_tables
from bagel_perf.report.inert import print_line
from bagel_perf.report.summary import SUMMARY_FILE
from bagel_perf.report.text import print_document, print_result
from bagel_perf.verdicts.reading import load_checked

if TYPE_CHECKING:
    from bagel_perf.report.html.inputs import Inputs

PAGE_FILE = "report.html"
MARKDOWN_FILE = "report.md"
MAX_PAGE_BYTES = 3_000_000
"""What a page should not grow over, so that it opens at once from the artifacts of a CI run."""
WRITTEN_BY = b"Written by bagel-perf"
SCHEMA = "bagel-perf.report"
VERSION = 1


def run_report(paths: Sequence[Path], out: Path, json_path: str | None, *, quiet: bool) -> None:
    """Writes ``report.html`` and ``summary.md`` of what is there; of results the last by date is the subject.

    Reports of ``syncs`` and traces among the paths have sections of their own; profiled runs give the timelines. A
    report of ``gate`` stands before the results that it judged, or by itself as one of ranks does.
    """
    # Imported here: jinja2 and matplotlib are for pages alone.
    from bagel_perf.report.html.inputs import read_inputs
    from bagel_perf.report.html.page import build_page, page_html, page_markdown
    from bagel_perf.report.html.source import load_sources
    from bagel_perf.report.html.trace_page import other_sections, page_of_inputs

    check_json_path(json_path)
    with writing(out):
        _check_folder(out)
        check_outputs(
            {PAGE_FILE: out / PAGE_FILE, SUMMARY_FILE: out / SUMMARY_FILE, "--json": json_file(json_path)}, paths
        )
    inputs = read_inputs(paths)
    sources = load_sources(inputs.results) if inputs.results else ()
    with making_page(paths):
        if sources:
            counted = tuple(report for report in inputs.syncs if report.profile is None)
            others = other_sections(counted, inputs.traces)
            gate = _one_gate(inputs)
            page = build_page(sources, inputs.profiles, gate, beside=SUMMARY_FILE, others=others)
        else:
            page = dataclasses.replace(page_of_inputs(inputs), beside=SUMMARY_FILE)
        texts = {PAGE_FILE: page_html(page), SUMMARY_FILE: page_markdown(page)}
    _write(out, texts)
    warn_of_size(texts[PAGE_FILE], "give fewer profiled runs")
    if not quiet:
        print_line(f"page: {out / PAGE_FILE}; next: open it in a browser", stream_for_people(json_path))
    files = {"html": str(out / PAGE_FILE), "summary": str(out / SUMMARY_FILE)}
    names = [str(source.folder / RESULT_FILE) for source in sources]
    subject = names[-1] if names else None
    write_json(json_path, {"schema": SCHEMA, "version": VERSION, "subject": subject, "results": names, **files})


def _one_gate(inputs: Inputs) -> GateReport | None:
    """The gate that judged the results; ``UsageError`` where there are several, or reports of ranks."""
    if inputs.ranks or len(inputs.gates) > 1:
        raise UsageError(
            "reports that go with no result", allowed="one report of a gate", remedy="make a page of each by itself"
        )
    return inputs.gates[0] if inputs.gates else None


def write_page(result: Result, folder: Path) -> Path:
    """Writes the page of one result beside it, and as Markdown; its shorter ``summary.md`` is there already."""
    from bagel_perf.report.html.page import build_page, page_html, page_markdown
    from bagel_perf.report.html.source import source_of

    with making_page([folder]):
        page = build_page((source_of(result, folder),), beside=MARKDOWN_FILE)
        texts = {PAGE_FILE: page_html(page), MARKDOWN_FILE: page_markdown(page)}
    _write(folder, texts)
    warn_of_size(texts[PAGE_FILE], "measure fewer resolutions at once")
    return folder / PAGE_FILE


def write_gate_page(report: GateReport, kept: Sequence[tuple[Result, Path]], path: Path) -> None:
    """Writes the page of a gate, with the results that it judged and their folders, the judged one last."""
    from bagel_perf.report.html.page import build_page, gate_page, page_html
    from bagel_perf.report.html.source import checked_source

    sources = [checked_source(result, folder / RESULT_FILE) for result, folder in kept]
    with making_page([folder for _, folder in kept]):
        text = page_html(build_page(sources, gate=report) if kept else gate_page(report))
    write_text(path, text)
    warn_of_size(text, "judge results of fewer resolutions")


@contextlib.contextmanager
def making_page(paths: Sequence[Path]) -> Iterator[None]:
    """Turns what a page of files that pass all checks still raises into one line that names them."""
    try:
        yield
    except BagelPerfError:
        raise
    except (ArithmeticError, LookupError, ValueError, TypeError, RecursionError) as problem:
        raise UsageError(
            "page cannot be made of these files",
            value=", ".join(map(str, paths)),
            allowed=f"{type(problem).__name__}: {problem}",
            remedy="--debug shows where",
        ) from problem


def _check_folder(folder: Path) -> None:
    """``UsageError`` where the folder holds what the page must not replace."""
    remedy = "choose another --out"
    if (folder / RESULT_FILE).exists():
        raise UsageError("folder of the page holds a result, with a summary of its own", value=folder, remedy=remedy)
    page, summary = folder / PAGE_FILE, folder / SUMMARY_FILE
    foreign = page if is_foreign(page) else summary if summary.exists() and not page.exists() else None
    if foreign is not None:
        raise UsageError("a file that is not ours is in the way", value=foreign, remedy=f"remove it, or {remedy}")


def is_foreign(page: Path) -> bool:
    """Whether something stands there that is no page of ours, which may be replaced."""
    # The data of the page stand after this sentence, and may be of any size.
    return page.exists() and (not page.is_file() or WRITTEN_BY not in page.read_bytes())


def warn_of_size(page: str, remedy: str) -> None:
    """Prints a warning where a page grew too large, with what helps."""
    num_bytes = len(page.encode())
    if num_bytes > MAX_PAGE_BYTES:
        size = f"{num_bytes / 1e6:.1f} MB, more than {MAX_PAGE_BYTES / 1e6:.0f}"
        print_line(f"warning: page has {size}; {remedy}", sys.stderr)


def _write(folder: Path, texts: dict[str, str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError("no folder for the page", value=folder, remedy="choose another --out")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")


def show_result(path: Path, json_path: str | None, *, quiet: bool) -> None:
    """Prints what ``compare`` printed of a file or folder, or what another benchmark wrote there."""
    check_json_path(json_path)
    check_outputs({"--json": json_file(json_path)}, [path])
    if files := bench_files(path):
        if not quiet:
            print_document(stream_for_people(json_path), bench_tables(files, str(path)), bench_lines(files))
        write_json(json_path, bench_to_json(files))
        return
    result = load_checked(path)
    if not quiet:
        print_result(result, result_file(path), stream_for_people(json_path))
    write_json(json_path, result.to_json())
