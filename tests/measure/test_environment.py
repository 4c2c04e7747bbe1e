"""A result names the commit that was measured."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from bagel_perf.measure.environment import git_revision


def test_a_copy_says_itself_what_was_copied_whatever_checkout_it_lies_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAGEL_PERF_COMMIT", "abc1234")
    assert git_revision(Path(__file__).parent) == ("abc1234", None)


def test_a_whole_hash_of_a_copy_is_shortened_as_that_of_a_checkout_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAGEL_PERF_COMMIT", "0123456789abcdef0123456789abcdef01234567")
    assert git_revision(Path(__file__).parent) == ("0123456", None)


def test_what_lies_in_no_checkout_has_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BAGEL_PERF_COMMIT", raising=False)
    assert git_revision(tmp_path) == (None, None)


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One commit with a file."""
    monkeypatch.delenv("BAGEL_PERF_COMMIT", raising=False)
    (tmp_path / "loop.py").write_text("pass\n")
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (("init", "--quiet"), ("add", "."), (*who, "commit", "--quiet", "-m", "Add a loop")):
        subprocess.run(("git", "-C", str(tmp_path), *words), check=True)
    return tmp_path


def _write(checkout: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(text)


RESULT = '{"schema": "bagel-perf.result", "version": 2}'


@pytest.mark.parametrize(
    "files",
    [
        {"reports/one/result.json": RESULT, "reports/one/summary.md": "x", "reports/.pictures-1/a.png": "x"},
        {"reports/gate/reference/runs.jsonl": RESULT, "reports/gate/candidate/result.json": RESULT},
        {"out/result.json": RESULT, "__pycache__/helper.cpython-312.pyc": "x"},
    ],
    ids=["compare", "gate revision, half done", "a folder of the user's choice"],
)
def test_results_of_ours_leave_a_tree_clean(checkout: Path, files: Mapping[str, str]) -> None:
    _write(checkout, files)
    assert git_revision(checkout)[1] is False


@pytest.mark.parametrize(
    "files",
    [
        {"loop.py": "x = 1\n", "reports/one/result.json": RESULT},
        {"helper.py": "x = 1\n"},
        {"reports/one/result.json": RESULT, "reports/notes.md": "x"},
        {"out/result.json": RESULT, "out/helper.py": "x = 1\n"},
        {"out/result.json": '{"schema": "other"}'},
    ],
    ids=["tracked", "untracked", "beside a result", "code in a result", "a result of others"],
)
def test_what_a_person_changed_makes_a_tree_dirty(checkout: Path, files: Mapping[str, str]) -> None:
    _write(checkout, files)
    assert git_revision(checkout)[1] is True
