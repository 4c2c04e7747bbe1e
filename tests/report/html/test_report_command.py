"""``report`` writes a page and its Markdown, and refuses in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bagel_perf.cli import main
from bagel_perf.commands import report
from bagel_perf.commands.report import write_page
from bagel_perf.schema.results import load

RESULT = Path(__file__).resolve().parents[3] / "reports" / "2026-11-23_h200_252761e"


def test_a_page_and_its_markdown_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "page"
    assert main(["report", str(RESULT), "--out", str(out), "--json", "-"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "summary.md"]
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == "bagel-perf.report"
    assert data["subject"] == str(RESULT / "result.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "{tmp}/none", "--out", "{tmp}/x"], "result file cannot be read"),
        (["report", str(RESULT)], "Missing option '--out'"),
        (["report", "--out", "x"], "Missing argument"),
        (["report", str(RESULT), "--out", str(RESULT)], "folder of the page holds a result"),
        (["report", str(RESULT), "--out", "{tmp}/file"], "no folder for the page"),
    ],
)
def test_wrong_arguments_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "file").touch()
    assert main([each.format(tmp=tmp_path) for each in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_page_that_grows_too_large_is_written_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MAX_PAGE_BYTES", 100_000)
    assert main(["report", str(RESULT), "--out", str(tmp_path / "page"), "--quiet"]) == 0
    assert (tmp_path / "page" / "report.html").is_file()
    assert capsys.readouterr().err.startswith("warning: page has ")


def test_a_page_beside_a_result_leaves_its_summary_alone(tmp_path: Path) -> None:
    path = write_page(load(RESULT / "result.json"), tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == [path.name, "report.md"] == ["report.html", "report.md"]
    assert "in report.md as text" in path.read_text(encoding="utf-8")
