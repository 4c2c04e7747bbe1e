"""``trace --html``: the page of what was found, where nothing of somebody else's stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bagel_perf.commands.common import check_outputs, json_file, writable
from bagel_perf.commands.report import is_foreign, making_page, warn_of_size
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.store import write_text, writing
from bagel_perf.schema.trace_ranks import RanksReport
from bagel_perf.schema.traces import TraceReport

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
