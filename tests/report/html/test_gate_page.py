"""A gate's page says first whether it passes and what to do, then shows the results that it judged."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from msgspec.structs import replace

from bagel_perf.cli import main
from bagel_perf.commands import report
from bagel_perf.records.gates import VERDICTS, Finding, FindingKind, GateReport
from bagel_perf.records.results import Result
from bagel_perf.records.store import write_json_atomic
from bagel_perf.report.html.content import Badges, Culprit, Section, TableBlock, Text
from bagel_perf.report.html.environment import ADVICE, gate_section
from bagel_perf.report.html.page import build_page, gate_page, glyph, page_html
from bagel_perf.report.html.source import source_of
from gated_results import make_result

PASSED = GateReport(findings=(), checks=(("pictures", "pass"), ("counters", "not judged")))
DRIFTED = GateReport(
    findings=(Finding(kind="counter", message="<b>calls</b> 5, expected 4", file="kernels/x.py", line=3),),
    checks=(("counters", "failed"),),
    notes=("a note",),
)
SLOWER = make_result({"sync_free": {"dit": 9.0}}, load=(1.0,) * 10)


def texts(section: Section) -> list[str]:
    return [section.heading, *(block.text for block in section.blocks if isinstance(block, Text))]


def badges(section: Section) -> list[tuple[str, str]]:
    found = (badge for block in section.blocks if isinstance(block, Badges) for badge in block.badges)
    return [(badge.text, badge.tone) for badge in found]


def cells(section: Section) -> list[tuple[str, ...]]:
    return [row for block in section.blocks if isinstance(block, TableBlock) for row in block.table.rows]


def test_a_gate_that_passes_says_so_and_what_was_not_judged() -> None:
    section = gate_section(PASSED)
    assert texts(section) == ["The gate passes."]
    assert badges(section) == [("pictures: pass", "good"), ("counters: not judged", "doubt")]


def test_a_gate_that_judged_nothing_does_not_say_that_it_passes() -> None:
    nothing = replace(PASSED, checks=(("pictures", "not judged"), ("counters", "not judged")))
    assert texts(gate_section(nothing)) == ["The gate judged nothing, and so found nothing."]


def test_a_finding_with_a_file_and_no_line_names_the_file() -> None:
    (finding,) = DRIFTED.findings
    section = gate_section(replace(DRIFTED, findings=(replace(finding, line=None),)))
    assert ("counters drifted", finding.message, "kernels/x.py") in cells(section)


def test_a_gate_that_does_not_names_the_line_and_the_next_step() -> None:
    section = gate_section(DRIFTED)
    assert texts(section) == ["The gate does not pass: counters drifted (1 finding).", ADVICE["counter"]]
    assert ("counters drifted", "<b>calls</b> 5, expected 4", "kernels/x.py:3") in cells(section)
    (culprit,) = [block for block in section.blocks if isinstance(block, Culprit)]
    assert (culprit.place, culprit.text) == ("kernels/x.py:3", "<b>calls</b> 5, expected 4.")


def test_each_kind_of_finding_has_advice_and_each_verdict_a_sign() -> None:
    assert set(ADVICE) == set(get_args(FindingKind))
    signs = {verdict: glyph("verdict", verdict) for verdict in (*VERDICTS.values(), "pass", "fail")}
    assert None not in signs.values()


def test_what_a_finding_says_is_text() -> None:
    page = page_html(gate_page(DRIFTED))
    assert "&lt;b&gt;calls&lt;/b&gt;" in page and "<b>calls" not in page
    assert "summary.md" not in page, "there is none"


def test_the_gate_comes_before_the_result_that_it_judged() -> None:
    page = build_page([source_of(SLOWER, Path())], gate=DRIFTED)
    assert [section.anchor for section in page.sections][:2] == ["gate", "answer"]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.chdir(tmp_path)
    write_json_atomic(Path("now.json"), SLOWER.to_json())
    write_json_atomic(Path("before.json"), make_result({"sync_free": {}}, load=(1.0,) * 10).to_json())
    return SLOWER


@pytest.mark.usefixtures("kept")
def test_the_command_writes_the_page_whatever_the_verdict() -> None:
    assert main(["gate", "result", "now.json", "--limit", "dit:3%", "--html", "gate.html", "--quiet"]) == 1
    page = Path("gate.html").read_text(encoding="utf-8")
    assert "The gate does not pass: regressed (1 finding)." in page
    assert "History" not in page


@pytest.mark.usefixtures("kept")
@pytest.mark.usefixtures("undrawn")
def test_the_reference_is_the_history_of_what_was_judged() -> None:
    arguments = ["gate", "result", "now.json", "--reference", "before.json", "--limit", "dit:3%", "--html", "gate.html"]
    assert main([*arguments, "--quiet"]) == 1
    assert 'id="history"' in Path("gate.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("kept")
def test_a_page_that_cannot_be_written_is_refused_before_anything_is_judged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["gate", "result", "now.json", "--html", "nowhere/gate.html"]) == 2
    assert "--html cannot be written there" in capsys.readouterr().err


@pytest.mark.usefixtures("kept")
def test_a_page_that_grows_too_large_is_written_with_a_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MAX_PAGE_BYTES", 10_000)
    assert main(["gate", "result", "now.json", "--limit", "dit:10%", "--html", "gate.html", "--quiet"]) == 0
    assert capsys.readouterr().err.startswith("warning: page has ")


@pytest.mark.usefixtures("kept")
def test_a_result_that_contradicts_itself_is_named_and_not_judged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_json_atomic(Path("odd.json"), replace(SLOWER, exit_code=3).to_json())
    assert main(["gate", "result", "odd.json", "--limit", "dit:3%", "--html", "gate.html", "--json", "gate.json"]) == 2
    assert "exit code 3 does not go with the verdict pass" in capsys.readouterr().err
    assert not Path("gate.json").exists()
    assert not Path("gate.html").exists()


@pytest.mark.usefixtures("kept")
@pytest.mark.usefixtures("undrawn")
def test_a_foreign_page_is_not_replaced_and_an_own_one_is(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.html").write_text("<html>mine")
    assert main(["gate", "result", "now.json", "--html", "mine.html"]) == 2
    assert "a file that is not ours is in the way" in capsys.readouterr().err
    assert Path("mine.html").read_text() == "<html>mine"
    for _ in range(2):
        assert main(["gate", "result", "now.json", "--limit", "dit:3%", "--html", "gate.html", "--quiet"]) == 1
