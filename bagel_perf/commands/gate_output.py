"""Where the report of a gate goes: terminal, JSON, JUnit, Markdown, annotations, a page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bagel_perf.commands.common import (
    check_json_path,
    check_outputs,
    json_file,
    stream_for_people,
    writable,
    write_json,
)
from bagel_perf.commands.report import is_foreign, write_gate_page
from bagel_perf.report.gate_text import gate_lines, gate_markdown, gate_tables, workflow_commands
from bagel_perf.report.junit import junit_xml
from bagel_perf.report.text import print_document
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.gates import ERRORS, GateReport
from bagel_perf.schema.results import Result, is_result
from bagel_perf.schema.store import write_text, writing


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOutput:
    """Where the report goes besides the terminal."""

    json_path: str | None = None
    junit: Path | None = None
    summary: Path | None = None
    html: Path | None = None
    github: bool = False
    quiet: bool = False

    def check(self, *inputs: Path) -> None:
        """``UsageError`` before anything runs if a file could not be written in the end, or would replace ``inputs``.

        A result is not replaced either, whether or not it is among them.
        """
        check_json_path(self.json_path)
        outputs = {"--junit": self.junit, "--summary": self.summary, "--html": self.html}
        for option, path in outputs.items():
            if path == Path("-"):
                remedy = f"choose another {option}"
                raise UsageError(
                    f"{option} needs a file", value=path, allowed="only --json goes to stdout", remedy=remedy
                )
            if path is not None:
                writable(path, option)
        outputs["--json"] = json_file(self.json_path)
        check_outputs(outputs, inputs)
        for option, path in outputs.items():
            if path is not None and _is_result(path):
                remedy = "choose another path"
                raise UsageError("output would replace a result", value=f"{option} {path}", remedy=remedy)
        if self.html is not None and self.html.is_file() and is_foreign(self.html):
            remedy = "remove it, or choose another --html"
            raise UsageError("a file that is not ours is in the way", value=self.html, remedy=remedy)

    def write(self, report: GateReport, kept: Sequence[tuple[Result, Path]] = ()) -> None:
        """All that was asked for; raises the error of the worst finding.

        ``kept`` are the results that were judged, the candidate last, and the folders of their pictures.
        """
        if not self.quiet:
            print_document(stream_for_people(self.json_path), gate_tables(report), gate_lines(report))
        if self.github:
            print(*workflow_commands(report), sep="\n", file=stream_for_people(self.json_path))
        for path, text in ((self.junit, junit_xml(report)), (self.summary, gate_markdown(report))):
            if path is not None:
                write_text(path, text)
        if self.github and os.environ.get("GITHUB_STEP_SUMMARY"):
            path = Path(os.environ["GITHUB_STEP_SUMMARY"])
            with writing(path), path.open("a", encoding="utf-8") as file:
                file.write(gate_markdown(report))
        write_json(self.json_path, report.to_json())
        if self.html is not None:
            write_gate_page(report, kept, self.html)
        if report.worst is not None:
            first = next(finding for finding in report.findings if finding.kind == report.worst)
            more = len(report.findings) - 1
            raise ERRORS[report.worst](report.verdict, value=first.message, remedy=f"and {more} more" if more else "")


def _is_result(path: Path) -> bool:
    """Whether a file is one of compare's, whose schema stands at its begin."""
    if not path.is_file():
        return False
    with writing(path):
        return is_result(path)
