"""The report of a gate says first what matters, and what it quotes stays text in every format."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bagel_perf.report.gate_text import gate_lines, gate_markdown, workflow_commands
from bagel_perf.report.junit import junit_xml
from bagel_perf.schema.gates import Finding, FindingKind, GateReport

HOSTILE = "a | b <script>`x`\n::error::y 100% \x07"
FINDING = Finding(kind="counter", message="new host syncs at a,b.py:3", file="a,b.py", line=3)


def report(*findings: Finding, outcome: str = "failed") -> GateReport:
    checks = (("pictures and latents", "pass"), ("counters as expected", outcome))
    return GateReport(findings=findings, checks=checks, notes=("another torch",))


@pytest.mark.parametrize(
    ("kinds", "verdict", "code"),
    [
        ([], "pass", 0),
        (["inconclusive"], "inconclusive", 4),
        (["inconclusive", "regression"], "regressed", 1),
        (["regression", "counter"], "counters drifted", 7),
        (["counter", "environment"], "unlike environments", 5),
        (["environment", "picture", "regression"], "outputs differ", 3),
    ],
)
def test_the_worst_finding_decides(kinds: list[FindingKind], verdict: str, code: int) -> None:
    found = report(*(Finding(kind=kind, message=kind) for kind in kinds))
    assert (found.verdict, found.exit_code) == (verdict, code)
    assert GateReport.from_json(found.to_json()) == found
    assert list(gate_lines(found))[-1].startswith(f"gate: {verdict}")
    assert gate_markdown(found).startswith(f"### bagel-perf gate: {verdict}\n")


def test_a_finding_is_annotated_at_its_line() -> None:
    assert list(workflow_commands(report(FINDING))) == [
        "::error file=a%2Cb.py,line=3,title=bagel-perf%3A counters drifted::new host syncs at a,b.py:3"
    ]


def test_what_is_quoted_stays_text() -> None:
    hostile = report(Finding(kind="counter", message=HOSTILE))
    (command,) = workflow_commands(hostile)
    assert "\n" not in command and command.count("::error") == 2 and "100%25" in command
    markdown = gate_markdown(hostile)
    assert "\\<script\\>" in markdown and "<script>" not in markdown.replace("\\<script\\>", "")
    (line,) = [line for line in markdown.splitlines() if "script" in line]
    assert "::error::y" in line, "one finding is one line"
    assert ElementTree.fromstring(junit_xml(hostile)).tag == "testsuite"


def test_many_findings_are_cut_in_a_summary_and_counted() -> None:
    findings = [Finding(kind="counter", message=f"number {index}") for index in range(50)]
    markdown = gate_markdown(report(*findings))
    assert "number 19" in markdown and "number 20" not in markdown and "- and 30 more" in markdown
    assert len(markdown.splitlines()) <= 60


@pytest.mark.parametrize(("outcome", "tag"), [("pass", None), ("failed", "failure"), ("inconclusive", "skipped")])
def test_a_check_is_a_test_case(outcome: str, tag: str | None) -> None:
    suite = ElementTree.fromstring(junit_xml(report(FINDING, outcome=outcome)))
    first, second = suite.findall("testcase")
    assert [len(first), len(second)] == [0, int(tag is not None)]
    if tag is not None:
        assert second[0].tag == tag and "new host syncs at a,b.py:3" in (second[0].text or "")
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == (
        "2",
        str(int(tag == "failure")),
        str(int(tag == "skipped")),
    )
