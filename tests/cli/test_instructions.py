"""What the documents and Makefile tell people to type is there, and says what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bagel_perf.cli import main

ROOT = Path(__file__).resolve().parents[2]
UNNAMED = {"--device", "--preset", "--attention", "--quiet", "--debug", "--help"}
"""Left to ``--help``."""


def test_the_commands_page_names_the_options_of_a_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help"]) == 0
    words = capsys.readouterr().out.split()
    options = {word for word in words if word.startswith("--")} - UNNAMED
    assert {"--out", "--json", "--warmup", "--successive"} <= options
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert sorted(option for option in options if option not in page) == []


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_the_tables_are_made_of_no_result_that_was_not_named() -> None:
    command = ["make", "-n", "docs-results"]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of `make test`
    done = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    error = 'RESULT is missing; folders of results; make docs-results RESULT="reports/A reports/B"'
    assert done.stderr.count("\n") == 1 and error in done.stderr
    command.append("RESULT=reports/A reports/B")
    named = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=True)
    assert named.stdout.splitlines()[-1].endswith("tests/tools/docs_results.py reports/A reports/B docs/bagel.md")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=outside, capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "TORCH is missing; a release of torch; make test-torch TORCH=2.14.1"),
        (
            ["TORCH=2.14"],
            "error: TORCH is no release (2.14); a release of torch, as 2.14.1; make test-torch TORCH=2.14.1",
        ),
        (["TORCH=nightly; false"], "error: TORCH is no release (nightly; false); a release of torch"),
    ],
)
def test_a_torch_to_test_that_is_none_is_refused_before_anything_is_installed(
    arguments: list[str], message: str
) -> None:
    done = make("test-torch", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[0]
    assert not list(ROOT.glob(".venv-torch-*n*"))
