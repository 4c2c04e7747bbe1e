"""``report``: from result files to a page and its Markdown, without running anything."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bagel_perf.commands.common import check_json_path, stream_for_people, write_json
from bagel_perf.report.markdown import SUMMARY_FILE
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.gates import GateReport
from bagel_perf.schema.results import RESULT_FILE, Result
from bagel_perf.schema.store import writing

PAGE_FILE = "report.html"
MARKDOWN_FILE = "report.md"
MAX_PAGE_BYTES = 3_000_000
"""What a page should not grow over, so that it opens at once from the artifacts of a CI run."""
SCHEMA = "bagel-perf.report"
VERSION = 1


def run_report(paths: Sequence[Path], out: Path, json_path: str | None, *, quiet: bool) -> None:
    """Writes ``report.html`` and ``summary.md`` of the results; the last by date is the subject.

    Profiled runs of ``syncs`` among the paths give the timelines.
    """
    # Imported here: jinja2 and matplotlib are for pages alone.
    from bagel_perf.report.html.page import build_page, page_html
    from bagel_perf.report.html.page_markdown import page_markdown
    from bagel_perf.report.html.profiles import split_files
    from bagel_perf.report.html.source import load_sources

    check_json_path(json_path)
    if (out / RESULT_FILE).exists():
        remedy = "choose another --out"
        raise UsageError("folder of the page holds a result, with a summary of its own", value=out, remedy=remedy)
    results, profiles = split_files(paths)
    sources = load_sources(results)
    page = build_page(sources, profiles, beside=SUMMARY_FILE)
    texts = {PAGE_FILE: page_html(page), SUMMARY_FILE: page_markdown(page)}
    _write(out, texts)
    num_bytes = len(texts[PAGE_FILE].encode())
    if num_bytes > MAX_PAGE_BYTES:
        size = f"{num_bytes / 1e6:.1f} MB, more than {MAX_PAGE_BYTES / 1e6:.0f}"
        print(f"warning: page has {size}; give fewer profiled runs", file=sys.stderr)
    if not quiet:
        print(f"page: {out / PAGE_FILE}; next: open it in a browser", file=stream_for_people(json_path))
    files = {"html": str(out / PAGE_FILE), "summary": str(out / SUMMARY_FILE)}
    names = [str(source.folder / RESULT_FILE) for source in sources]
    write_json(json_path, {"schema": SCHEMA, "version": VERSION, "subject": names[-1], "results": names, **files})


def write_page(result: Result, folder: Path) -> Path:
    """Writes the page of one result beside it, and as Markdown; its shorter ``summary.md`` is there already."""
    from bagel_perf.report.html.page import build_page, page_html
    from bagel_perf.report.html.page_markdown import page_markdown
    from bagel_perf.report.html.source import source_of

    page = build_page((source_of(result, folder),), beside=MARKDOWN_FILE)
    _write(folder, {PAGE_FILE: page_html(page), MARKDOWN_FILE: page_markdown(page)})
    return folder / PAGE_FILE


def write_gate_page(report: GateReport, kept: Sequence[tuple[Result, Path]], path: Path) -> None:
    """Writes the page of a gate, with the results that it judged and their folders, the judged one last."""
    from bagel_perf.report.html.page import build_page, gate_page, page_html
    from bagel_perf.report.html.source import source_of

    page = build_page([source_of(*each) for each in kept], gate=report) if kept else gate_page(report)
    with writing(path):
        path.write_text(page_html(page), encoding="utf-8")


def _write(folder: Path, texts: dict[str, str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError("no folder for the page", value=folder, remedy="choose another --out")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
