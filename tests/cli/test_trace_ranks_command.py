"""``trace`` takes several files or a folder as the ranks of one program, and writes a page of what it found."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from bagel_perf.cli import main
from bagel_perf.records.trace_ranks import RanksReport
from kineto_files import new_file, write
from rank_scenes import four_ranks, rank_files
from trace_scenes import two_steps

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def ranks(tmp_path: Path) -> Path:
    folder = tmp_path / "ranks"
    folder.mkdir()
    rank_files(folder, four_ranks())
    return folder


def test_a_folder_is_a_rank_each_and_the_late_one_is_named(ranks: Path, capsys: Capture) -> None:
    (ranks / "notes.txt").touch()
    (ranks / "deeper").mkdir()
    assert main(["trace", str(ranks)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 ranks: rank0.pt.trace.json to rank3.pt.trace.json"
    assert any(line.startswith("rank 2 was last in 3 of 3 steady steps") for line in lines)
    assert "- left aside in the folder: deeper, notes.txt" in lines
    assert lines[-1].startswith("next: look at rank 2: its GPU worked 0.30 ms longer than the median of the others")


def test_files_are_as_a_folder_and_the_json_has_every_rank(ranks: Path, tmp_path: Path, capsys: Capture) -> None:
    files = [str(path) for path in sorted(ranks.iterdir(), reverse=True)]
    assert main(["trace", *files, "--json", "-"]) == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert (data["schema"], data["version"]) == ("bagel-perf.ranks", 1)
    report = RanksReport.from_json(data)
    assert [each.rank for each in report.ranks] == [0, 1, 2, 3]
    assert "Who arrived last" in err
    assert str(tmp_path) not in out


def test_ten_comes_after_two_in_a_folder(tmp_path: Path, capsys: Capture) -> None:
    for number in (10, 2, 1):
        write(tmp_path / f"t{number}.json", new_file(two_steps()))
    assert main(["trace", str(tmp_path), "--json", "-", "--quiet"]) == 0
    files = [each["report"]["source"]["file"] for each in json.loads(capsys.readouterr().out)["ranks"]]
    assert files == ["t1.json", "t2.json", "t10.json"]


def test_a_folder_with_one_trace_is_that_trace(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "a.json", new_file(two_steps()))
    assert main(["trace", str(tmp_path), "--json", "-", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "bagel-perf.trace"


def test_ranks_are_compared_with_their_own_kind(ranks: Path, tmp_path: Path, capsys: Capture) -> None:
    before = tmp_path / "before"
    before.mkdir()
    rank_files(before, four_ranks(), "old-rank{}.json")
    assert main(["trace", str(ranks), "--against", str(before), "--json", str(tmp_path / "out.json")]) == 0
    assert "Against old-rank3.json" in capsys.readouterr().out
    data = json.loads((tmp_path / "out.json").read_text())
    references = [each["report"]["difference"]["reference"] for each in data["ranks"]]
    assert references == [f"old-rank{rank}.json" for rank in range(4)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ranks", "--against", "ranks/rank0.pt.trace.json"], "error: traces cannot be compared (4 and 1); one with"),
        (["ranks/rank0.pt.trace.json", "--against", "ranks"], "error: traces cannot be compared (1 and 4); one with"),
        (["ranks", "--against", "fewer"], "error: traces are of unlike ranks (0, 1, 2, 3 and 0, 1); the same ranks"),
        (["ranks", "ranks/rank0.pt.trace.json"], "error: trace is named twice (ranks/rank0.pt.trace.json)"),
        (["-", "--against", "-"], "error: stdin can be read once (-); one of FILE and --against"),
        (["-", "-"], "error: trace is named twice (-); name it once"),
        (["ranks", "fewer"], "error: two traces are of rank 0 (rank0.pt.trace.json, rank0.json); one of each rank"),
        (["empty"], "error: folder has no trace (empty); files that end in .json and"),
        (["ranks", "--html", "ranks/rank1.pt.trace.json"], "error: output would replace what is read (--html"),
        (["ranks", "--html", "foreign.html"], "error: a file that is not ours is in the way (foreign.html); remove"),
        (["ranks", "--html", "no/such.html"], "error: --html cannot be written there (no/such.html)"),
        (["ranks", "--html", "-"], "error: --html needs a file (-); only --json goes to stdout"),
        (["ranks", "--html", "a.html", "--json", "a.html"], "error: two outputs go to one file"),
        (["ranks", "--json", "ranks/rank1.pt.trace.json"], "error: a file is in the way of the JSON ("),
    ],
)
def test_what_cannot_be_done_is_one_line_and_2(
    ranks: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(ranks.parent)
    for name in ("empty", "fewer"):
        Path(name).mkdir()
    rank_files(Path("fewer"), four_ranks()[:2], "rank{}.json")
    Path("foreign.html").write_text("<p>mine</p>")
    inputs = {path: path.read_bytes() for path in ranks.iterdir()}
    assert main(["trace", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message) and err.count("\n") == 1
    assert {path: path.read_bytes() for path in ranks.iterdir()} == inputs
    assert Path("foreign.html").read_text() == "<p>mine</p>"


def test_a_page_is_written_and_written_again(ranks: Path, tmp_path: Path, capsys: Capture) -> None:
    page = tmp_path / "page.html"
    assert main(["trace", str(ranks), "--html", str(page), "--quiet"]) == 0
    assert "rank 2 was last in 3 of 3 steady steps" in page.read_text(encoding="utf-8").replace("Rank 2", "rank 2")
    assert main(["trace", str(ranks / "rank0.pt.trace.json"), "--html", str(page), "--quiet"]) == 0
    assert "Trace rank0.pt.trace.json" in page.read_text(encoding="utf-8")
    assert capsys.readouterr() == ("", "")


def test_packed_traces_of_a_folder_count_and_other_files_do_not(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.json.xz").write_bytes(lzma.compress(new_file(two_steps()).encode()))
    write(tmp_path / "B.JSON.GZ", new_file(two_steps()), packed=True)
    for name in ("c.json.txt", "d.nsys-rep", "json"):
        (tmp_path / name).touch()
    assert main(["trace", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 ranks: B.JSON.GZ to a.json.xz\n")
    assert "- left aside in the folder: c.json.txt, d.nsys-rep, json\n" in out
