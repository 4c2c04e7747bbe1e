"""``gate`` without a result: tier 1, which needs no GPU."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bagel_perf import launch
from bagel_perf.analysis import drift
from bagel_perf.analysis.gate_pictures import hash_findings, picture_findings
from bagel_perf.commands.common import (
    check_json_path,
    check_outputs,
    json_file,
    stream_for_people,
    writable,
    write_json,
)
from bagel_perf.commands.report import write_gate_page
from bagel_perf.report.expected_text import expected_toml
from bagel_perf.report.gate_text import gate_lines, gate_markdown, gate_tables, workflow_commands
from bagel_perf.report.junit import junit_xml
from bagel_perf.report.progress import ProgressView
from bagel_perf.report.text import print_document
from bagel_perf.schema.errors import BagelPerfError, CountersDrifted, EnvironmentUnfit, RunFailed, UsageError
from bagel_perf.schema.events import EnvironmentEvent, Event, RunEvent
from bagel_perf.schema.expected import Expected, load_expected
from bagel_perf.schema.gates import ERRORS, REQUESTS, VARIANTS, Finding, FindingKind, GateReport
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.results import SCHEMA, Result
from bagel_perf.schema.runs import Environment, Run
from bagel_perf.schema.store import writing


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
                _write(path, text)
        if self.github and os.environ.get("GITHUB_STEP_SUMMARY"):
            with Path(os.environ["GITHUB_STEP_SUMMARY"]).open("a", encoding="utf-8") as file:
                file.write(gate_markdown(report))
        write_json(self.json_path, report.to_json())
        if self.html is not None:
            write_gate_page(report, kept, self.html)
        if report.worst is not None:
            first = next(finding for finding in report.findings if finding.kind == report.worst)
            more = len(report.findings) - 1
            raise ERRORS[report.worst](report.verdict, value=first.message, remedy=f"and {more} more" if more else "")


def gate_tree(expected_path: Path, update: str | None, output: GateOutput) -> None:
    """Counts every variant and holds it to the expected file, or writes that with ``update`` as the reason."""
    output.check(expected_path)
    if update is not None and not update.strip():
        raise UsageError("--update without a reason", remedy='say why the numbers change: --update "REASON"')
    is_new = not expected_path.exists()
    expected = None if update is not None else load_expected(expected_path)
    plan = Plan(kind="gate", requests=REQUESTS, variants=VARIANTS, preset="tiny", device="cpu")
    events: list[Event] = []
    ended: BagelPerfError | None = None
    try:
        with ProgressView(sys.stderr, quiet=output.quiet) as view:
            launch.run_plan(plan, (events.append, view.on_event))
    except (EnvironmentUnfit, CountersDrifted) as problem:  # findings like others
        ended = problem
    environment = next((each.environment for each in events if isinstance(each, EnvironmentEvent)), None)
    if environment is None:
        raise ended or RunFailed("the worker measured nothing")
    report = judge_tree(expected, environment, _runs(events), ended)
    if update is not None and not report.findings:
        _update(expected_path, drift.measured(environment, REQUESTS, _runs(events), update), output, is_new=is_new)
    output.write(report)


def judge_tree(
    expected: Expected | None, environment: Environment, runs: list[Run], ended: BagelPerfError | None
) -> GateReport:
    """Without expectations the pictures alone are judged."""
    findings = list(picture_findings(REQUESTS, VARIANTS, runs))
    findings += [_of_error(ended)] if ended else []
    notes: list[str] = []
    if expected is not None:
        found = drift.measured(environment, REQUESTS, runs, expected.reason)
        judged = drift.only_of(found, expected) if isinstance(ended, CountersDrifted) else expected
        findings += drift.drift(judged, found, drift.sites_by_name(runs))
        if expected.made_with == found.made_with:
            findings += hash_findings(expected, found)
        else:
            notes.append(f"pictures are held to {VARIANTS[0]}'s, not to recorded hashes: {_unlike(expected, found)}")
    checks = _checks(findings, has_expected=expected is not None)
    return GateReport(findings=tuple(findings), checks=checks, notes=tuple(notes))


def _unlike(expected: Expected, found: Expected) -> str:
    """What the hashes were made with elsewhere."""
    theirs = expected.made_with
    changed = {name: value for name, value in found.made_with.items() if theirs.get(name) != value}
    return "; ".join(f"{name} is {value}, was {theirs.get(name, 'not told')}" for name, value in changed.items())


def _of_error(error: BagelPerfError) -> Finding:
    """An error of the worker as a finding, at the line that it names."""
    kind: FindingKind = "environment" if isinstance(error, EnvironmentUnfit) else "counter"
    place = re.search(r" at (\S+\.py):(\d+)", str(error))
    return Finding(
        kind=kind, message=str(error), file=place[1] if place else None, line=int(place[2]) if place else None
    )


def _checks(findings: list[Finding], *, has_expected: bool) -> tuple[tuple[str, str], ...]:
    kinds = {finding.kind for finding in findings}
    counted = "not judged" if not has_expected else "failed" if "counter" in kinds else "pass"
    return (
        ("pictures and latents", "failed" if "picture" in kinds else "pass"),
        ("settings unchanged", "failed" if "environment" in kinds else "pass"),
        ("counters as expected", counted),
    )


def _runs(events: list[Event]) -> list[Run]:
    return [each.run for each in events if isinstance(each, RunEvent)]


def _update(path: Path, expected: Expected, output: GateOutput, *, is_new: bool) -> None:
    if not is_new and replace(load_expected(path), reason=expected.reason) == expected:
        if not output.quiet:
            print(f"nothing to record: {path} holds these numbers", file=stream_for_people(output.json_path))
        return
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, expected_toml(expected))
    if not output.quiet:
        print(f"written: {path}", file=stream_for_people(output.json_path))


def _write(path: Path, text: str) -> None:
    with writing(path):
        path.write_text(text, encoding="utf-8")


def _is_result(path: Path) -> bool:
    """Whether a file is one of compare's, whose schema stands at its begin."""
    if not path.is_file():
        return False
    with writing(path), path.open("rb") as file:
        return f'"schema": "{SCHEMA}"'.encode() in file.read(1000)
