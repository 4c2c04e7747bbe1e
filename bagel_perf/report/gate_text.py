"""The report of a gate for people, for a step summary and as annotations of a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from bagel_perf.schema.gates import VERDICTS, GateReport

MAX_SUMMARY_FINDINGS = 20


def gate_lines(report: GateReport) -> Iterator[str]:
    """What was judged, what failed and why, and last the verdict."""
    width = max((len(name) for name, _ in report.checks), default=0)
    yield from (f"{name:<{width}}  {outcome}" for name, outcome in report.checks)
    yield from (f"note: {note}" for note in report.notes)
    yield from (f"{VERDICTS[finding.kind]}: {finding.message}" for finding in report.findings)
    number = len(report.findings)
    yield f"gate: {report.verdict}" + (f" ({number} finding{'s' * (number > 1)})" if number else "")


def gate_markdown(report: GateReport) -> str:
    """For $GITHUB_STEP_SUMMARY: the verdict first, at most some findings."""
    lines = [f"### bagel-perf gate: {report.verdict}", "", "| check | outcome |", "| --- | --- |"]
    lines += [f"| {_cell(name)} | {_cell(outcome)} |" for name, outcome in report.checks]
    if report.findings:
        lines.append("")
    lines += [f"- **{VERDICTS[each.kind]}**: {_cell(each.message)}" for each in report.findings[:MAX_SUMMARY_FINDINGS]]
    more = len(report.findings) - MAX_SUMMARY_FINDINGS
    lines += [f"- and {more} more"] * (more > 0)
    lines += ["", *(f"_{_cell(note)}_" for note in report.notes)] if report.notes else []
    return "\n".join(lines) + "\n"


def workflow_commands(report: GateReport) -> Iterator[str]:
    """A workflow command of GitHub for each finding, at its source line where it has one."""
    for finding in report.findings:
        level = "warning" if finding.kind == "inconclusive" else "error"
        place = f"file={_property(finding.file)},line={finding.line}," if finding.file else ""
        yield f"::{level} {place}title={_property(f'bagel-perf: {VERDICTS[finding.kind]}')}::{_data(finding.message)}"


def _cell(text: str) -> str:
    """Text of a result, which may not make Markdown of its own."""
    for mark in "\\`*_<>|[]":
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str | None) -> str:
    return _data(text or "").replace(":", "%3A").replace(",", "%2C")
