"""``report`` writes a page and its Markdown, and refuses in one line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from bagel_perf import launch
from bagel_perf.cli import main
from bagel_perf.commands import report
from bagel_perf.commands.report import write_page
from bagel_perf.records.gates import Finding, GateReport
from bagel_perf.report.html import page
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.ranks import compare_ranks
from bagel_perf.verdicts.reading import load_checked
from rank_scenes import four_ranks
from trace_stories import trace_of

ROOT = Path(__file__).resolve().parents[3]
RESULT = ROOT / "reports" / "2026-11-23_h200_252761e"


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
        (["report", str(RESULT), "--out", "{tmp}/" + "x" * 300], "File name too long"),
        (["report", str(RESULT), "--out", "{tmp}", "--json", "{tmp}/" + "x" * 300], "File name too long"),
        (["report", "x" * 300, "--out", "{tmp}/x"], "result file cannot be read"),
        (["report", "{tmp}/report.html", "--out", "{tmp}"], "output would replace what is read (report.html"),
        (["report", str(RESULT), "--out", "{tmp}", "--json", "{tmp}/summary.md"], "two outputs go to one file"),
        (
            ["report", "{tmp}/linked.json", "--out", "{tmp}/x", "--json", "{tmp}/linked.json"],
            "a file is in the way of the JSON",
        ),
        (["report", "{tmp}/link.json", "--out", "{tmp}/x", "--json", "{tmp}/linked.json"], "a file is in the way"),
        (["report", str(RESULT), "--out", "{tmp}/theirs"], "a file that is not ours is in the way"),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_wrong_arguments_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "report.html").write_text("Written by bagel-perf")
    (tmp_path / "linked.json").write_text("{}")
    (tmp_path / "link.json").symlink_to("linked.json")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "report.html").write_text("<h1>mine</h1>")
    assert main([each.format(tmp=tmp_path) for each in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (tmp_path / "linked.json").read_text() == "{}"
    assert (tmp_path / "theirs" / "report.html").read_text() == "<h1>mine</h1>"


@pytest.mark.usefixtures("undrawn")
def test_an_older_page_of_ours_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<p>Written by bagel-perf." + " " * 100_000)
    assert main(["report", str(RESULT), "--out", str(tmp_path), "--quiet"]) == 0
    assert main(["report", str(RESULT), "--out", str(tmp_path), "--quiet"]) == 0
    assert "</html>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_a_page_still_raises_is_one_line_that_names_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr(page, "successive_section", broken)
    arguments = ["report", str(RESULT), "--out", str(tmp_path / "page")]
    assert main(arguments) == 2
    said = f"({RESULT}); ZeroDivisionError: float division by zero; --debug shows where"
    assert capsys.readouterr().err == f"error: page cannot be made of these files {said}\n"
    assert not (tmp_path / "page").exists()
    assert main([*arguments, "--debug"]) == 2
    assert "in broken" in capsys.readouterr().err


@pytest.fixture
def scripted_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes ``compare`` start a worker without a model, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    worker = ROOT / "tests" / "support" / "scripted_worker.py"
    monkeypatch.setattr(launch, "WORKER_COMMAND", (sys.executable, str(worker), "ok"))


COMPARE = ["compare", "--res", "256", "--variants", "baseline,sync_free", "--html"]


@pytest.mark.usefixtures("scripted_worker")
def test_compare_names_its_page_last_and_warns_of_a_large_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MAX_PAGE_BYTES", 10_000)
    assert main([*COMPARE, "--out", "out"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "page: out/report.html"
    assert "warning: page has " in err


@pytest.mark.usefixtures("scripted_worker")
def test_the_page_of_compare_is_named_on_stderr_beside_json_and_not_when_quiet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*COMPARE, "--out", "out", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["verdict"] == "pass"
    assert "page: out/report.html" in err.splitlines()
    assert main([*COMPARE, "--out", "quiet", "--quiet"]) == 0
    assert "page: " not in "".join(capsys.readouterr())
    assert Path("quiet/report.html").is_file()


def test_a_page_that_grows_too_large_is_written_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MAX_PAGE_BYTES", 100_000)
    assert main(["report", str(RESULT), "--out", str(tmp_path / "page"), "--quiet"]) == 0
    assert (tmp_path / "page" / "report.html").is_file()
    assert capsys.readouterr().err.startswith("warning: page has ")


@pytest.mark.usefixtures("undrawn")
def test_a_page_beside_a_result_leaves_its_summary_alone(tmp_path: Path) -> None:
    path = write_page(load_checked(RESULT / "result.json"), tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == [path.name, "report.md"] == ["report.html", "report.md"]
    assert "in report.md as text" in path.read_text(encoding="utf-8")


def test_a_foreign_summary_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "summary.md").write_text("my notes")
    assert main(["report", str(RESULT), "--out", str(tmp_path)]) == 2
    assert "a file that is not ours is in the way" in capsys.readouterr().err
    assert (tmp_path / "summary.md").read_text() == "my notes"


@pytest.fixture
def apart(tmp_path: Path) -> tuple[Path, Path]:
    """The JSON of a gate and of several ranks."""
    gate = GateReport(
        findings=(Finding(kind="counter", message="calls 5, expected 4", file="kernels/x.py", line=3),),
        checks=(("counters", "failed"),),
    )
    ranks = compare_ranks({rank: analyse(trace_of(scene)) for rank, scene in enumerate(four_ranks())})
    for name, made in (("gate.json", gate), ("ranks.json", ranks)):
        (tmp_path / name).write_text(json.dumps(made.to_json()), encoding="utf-8")
    return tmp_path / "gate.json", tmp_path / "ranks.json"


@pytest.mark.usefixtures("undrawn")
def test_reports_of_gates_and_ranks_make_pages_of_their_own(
    apart: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = "The gate does not pass: counters drifted (1 finding).", "Rank 2 was last in 3 of 3 steady steps"
    for path, sentence in zip(apart, sentences, strict=True):
        assert main(["report", str(path), "--out", str(tmp_path / "page"), "--quiet"]) == 0
        text = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
        assert f'-title">{sentence}' in text and text.count("<h1") == 1
    assert main(["report", *map(str, apart), "--out", str(tmp_path / "page")]) == 2
    assert "make a page of each by itself" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_a_gate_stands_before_the_result_that_it_judged(apart: tuple[Path, Path], tmp_path: Path) -> None:
    gate, ranks = apart
    assert main(["report", str(gate), str(RESULT), "--out", str(tmp_path / "page"), "--quiet"]) == 0
    text = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert text.index('id="gate"') < text.index('id="answer"')
    assert main(["report", str(ranks), str(RESULT), "--out", str(tmp_path / "page")]) == 2
