"""``gate revision REV TARGET``: a file as it stands against the same file of a revision; ``gate result`` beside it."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import pytest

from bagel_perf.cli import main
from bagel_perf.measure import stages
from forked_workers import fork_workers
from gated_results import make_result

Capture = pytest.CaptureFixture[str]

LOOP = """
import torch


def setup(device):
    return torch.ones(3).to(device)


def run(state, case, seed):
    x = state * seed
    return torch.cat([x, x + 1]){wait}
"""
MANY = ["--limit", "e2e:100000%", "--pairs", "6", "--out", "kept"]


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *identity, *arguments], capture_output=True, check=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a loop that waits once, timed by a clock that ticks: equals differ by chance now and then."""
    monkeypatch.chdir(tmp_path)
    fork_workers(monkeypatch)
    ticks = itertools.count(1.0)
    monkeypatch.setattr(stages.WallClock, "now_ms", lambda clock: next(ticks))
    Path("loop.py").write_text(LOOP.format(wait=".cpu()"))
    git("init", "--quiet")
    git("add", "loop.py")
    git("commit", "--quiet", "-m", "m")
    return tmp_path


def test_a_file_as_it_was_passes_and_leaves_no_checkout(repository: Path, capsys: Capture) -> None:
    assert main(["gate", "revision", "HEAD", "loop.py", *MANY]) == 0
    assert "working tree against HEAD" in capsys.readouterr().out
    done = subprocess.run(["git", "worktree", "list"], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1


def test_one_wait_more_fails_with_its_place(repository: Path, capsys: Capture) -> None:
    Path("loop.py").write_text(LOOP.format(wait=".cpu() + 0 * x.sum().item()"))
    assert main(["gate", "revision", "HEAD", "loop.py", *MANY, "--json", "gate.json", "--quiet"]) == 7
    (finding,) = json.loads(Path("gate.json").read_text())["findings"]
    assert finding["message"] == "e2e at default waits 2 times, and 1 in HEAD: loop.py:11 x.sum().item()"
    assert (finding["file"], finding["line"]) == ("loop.py", 11)


def test_another_output_fails_before_any_latency(repository: Path, capsys: Capture) -> None:
    Path("loop.py").write_text(LOOP.format(wait=".cpu() + 1"))
    assert main(["gate", "revision", "HEAD", "loop.py", *MANY]) == 3
    assert "working tree at default differs from HEAD" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "loop.py"], "unknown revision (nowhere)"),
        (["HEAD", "other.py"], "file does not exist (other.py)"),
        (["HEAD", "new.py"], "revision does not have this file (HEAD:new.py)"),
        (["HEAD", "loop.py", "--res", "64"], "--res is for BAGEL"),
        (["HEAD", "loop.py", "--case", "x"], "unknown case (x)"),
    ],
)
def test_what_cannot_be_held_is_one_line(repository: Path, arguments: list[str], message: str, capsys: Capture) -> None:
    Path("new.py").write_text(LOOP.format(wait=""))
    assert main(["gate", "revision", *arguments, "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and message in err


def test_a_result_is_judged_by_a_command_of_two_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    slower = make_result({"sync_free": {"dit": 5.0}})
    Path("result.json").write_text(json.dumps(slower.to_json()))
    assert main(["gate", "result", "result.json", "--limit", "dit:10%", "--quiet"]) == 0
    assert main(["gate", "result", "result.json", "--limit", "256/dit:3%", "--quiet"]) == 1
    assert main(["gate", "result", "result.json", "--reference", "nowhere", "--quiet"]) == 2
