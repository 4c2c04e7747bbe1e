"""The report of a gate says first what matters, and what it quotes stays text in every format."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from bagel_perf.records.gates import CellState, Finding, FindingKind, GatedCell, GateReport, Limit
from bagel_perf.report.gates import gate_lines, gate_markdown, gate_tables, junit_xml, workflow_commands

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
        (["regression", "incomplete", "inconclusive"], "incomplete", 6),
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


def make_cell(variant: str, verdict: CellState, *, interval: tuple[float, float] | None = (4.0, 5.0)) -> GatedCell:
    return GatedCell(
        case="1024x1024",
        stage="dit",
        variant=variant,
        before_ms=8000.0,
        after_ms=8360.0,
        change=4.5,
        interval=interval,
        num_processes=6,
        limit=Limit(stage="dit", case="1024x1024", percent=3.0),
        verdict=verdict,
        reason="why",
        num_pairs=10,
        confidence=0.975,
    )


def latencies(*cells: GatedCell) -> GateReport:
    return replace(report(outcome="pass"), subject="Latency on a_b", cells=cells)


def test_a_latency_is_a_row_with_its_interval_and_limit() -> None:
    (table,) = gate_tables(latencies(make_cell("fused", "fail"), make_cell("sync_free", "inconclusive", interval=None)))
    assert [column.header for column in table.columns[3:]] == [
        *("before (ms)", "after (ms)", "delta of medians", "paired change", "interval", "limit", "verdict"),
    ]
    assert table.rows == (
        ("1024x1024", "DiT", "fused", "8000.0", "8360.0", "+4.50%", "+4.50%", "+4.00 to +5.00", "3%", "fail"),
        ("1024x1024", "DiT", "sync_free", "8000.0", "8360.0", "+4.50%", "+4.50%", "-", "3%", "inconclusive"),
    )
    assert table.caption == (
        "Each side was measured in 6 processes. Delta of medians is what before and after give by themselves. "
        "Paired change is the median over processes of the ratios within a round, and the verdict judges it. "
        "Each interval is for its cell by itself. A fail holds for all 2 together, with 5% error."
    )
    assert gate_tables(report()) == ()


def test_a_summary_with_many_latencies_shows_the_worst_and_keeps_to_its_length() -> None:
    cells = [make_cell(f"passes_{index}", "pass") for index in range(80)]
    cells += [make_cell("fails", "fail"), make_cell("unsure", "inconclusive")]
    findings = tuple(Finding(kind="regression", message=f"number {index}") for index in range(30))
    markdown = gate_markdown(replace(latencies(*cells), findings=findings, notes=("a",) * 9))
    assert "| fails |" in markdown and "| unsure |" in markdown and "cells more, none worse" in markdown
    assert "**Latency on a\\_b**" in markdown
    assert len(markdown.splitlines()) == 60
    assert "passes\\_0 |" in markdown and "passes\\_79" not in markdown


@pytest.mark.parametrize(("verdict", "tag"), [("pass", None), ("fail", "failure"), ("inconclusive", "skipped")])
def test_a_latency_is_a_test_case_with_its_ratio(verdict: CellState, tag: str | None) -> None:
    suite = ElementTree.fromstring(junit_xml(latencies(make_cell("fused", verdict))))
    case = suite.findall("testcase")[-1]
    assert case.attrib == {"classname": "bagel_perf.gate.latency", "name": "1024x1024 DiT fused"}
    values = {each.get("name"): each.get("value") for each in case.iter("property")}
    assert (values["ratio"], values["interval"], values["limit"]) == ("1.0450", "+4.00 to +5.00 %", "3%")
    assert [child.tag for child in case] == ["properties", *([tag] if tag else [])]


@pytest.mark.parametrize("outcome", ["invalid", "incomplete"])
def test_what_says_nothing_about_the_tree_is_an_error_and_no_failure(outcome: str) -> None:
    suite = ElementTree.fromstring(junit_xml(report(FINDING, outcome=outcome)))
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")
