"""The GitHub action hands on what the gate says, and its example would run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bagel_perf.cli import main

yaml: Any = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".github" / "actions" / "gate"
ACTION: dict[str, Any] = yaml.safe_load((FOLDER / "action.yml").read_text(encoding="utf-8"))
EXAMPLE: dict[str, Any] = yaml.safe_load((FOLDER / "example.yml").read_text(encoding="utf-8"))
GATE = """#!/usr/bin/env bash
printf '%s\\n' "$@" > said.txt
if [ "$CODE" != 2 ]; then echo '{"verdict": "told"}' > "$FILES/gate.json"; fi
exit "$CODE"
"""


def step(name: str) -> dict[str, Any]:
    (found,) = (each for each in ACTION["runs"]["steps"] if each.get("name") == name)
    return dict(found)


def run_gate(folder: Path, code: int, *, arguments: str = "", inconclusive: str = "fail") -> tuple[int, list[str]]:
    """Exit code of the action's script, and what it puts out, with a gate that ends in ``code``."""
    gate = folder / "bagel-perf"
    gate.write_text(GATE)
    gate.chmod(0o755)
    settings = {"ARGUMENTS": arguments, "INCONCLUSIVE": inconclusive, "FILES": str(folder / "files")}
    environment = {**os.environ, **settings, "CODE": str(code), "GITHUB_OUTPUT": str(folder / "output")}
    # A runner of GitHub's has a ``python``, which Debian may lack.
    environment["PATH"] = os.pathsep.join([str(folder), str(Path(sys.executable).parent), environment["PATH"]])
    script = step("Gate")["run"]
    # As GitHub runs a step of bash.
    done = subprocess.run(["bash", "-eo", "pipefail", "-c", script], cwd=folder, env=environment, check=False)
    return done.returncode, (folder / "output").read_text().splitlines()


@pytest.mark.parametrize(
    ("code", "inconclusive", "expected"),
    [(0, "fail", 0), (1, "pass", 1), (3, "pass", 3), (4, "fail", 4), (4, "pass", 0), (7, "fail", 7)],
)
def test_the_exit_code_of_the_gate_is_that_of_the_step(
    tmp_path: Path, code: int, inconclusive: str, expected: int
) -> None:
    assert run_gate(tmp_path, code, inconclusive=inconclusive) == (expected, [f"exit-code={code}", "verdict=told"])


def test_a_gate_that_judged_nothing_has_no_verdict(tmp_path: Path) -> None:
    assert run_gate(tmp_path, 2) == (2, ["exit-code=2", "verdict="])


def test_arguments_are_words_and_never_code(tmp_path: Path) -> None:
    (tmp_path / "a.json").touch()
    run_gate(tmp_path, 0, arguments="result *.json --limit dit:3% $(touch broken) ; touch broken")
    said = (tmp_path / "said.txt").read_text().splitlines()
    assert said[:6] == ["gate", "result", "*.json", "--limit", "dit:3%", "$(touch"]
    files = {"--json": "gate.json", "--junit": "junit.xml", "--html": "gate.html", "--summary": "summary.md"}
    asked = [word for option, name in files.items() for word in (option, str(tmp_path / "files" / name))]
    assert said[-9:] == ["--github", *asked]
    assert not (tmp_path / "broken").exists()
    scripts = [each["run"] for each in ACTION["runs"]["steps"] if "run" in each]
    assert not [script for script in scripts if "${{" in script]


def test_what_the_action_reads_is_declared_and_what_it_declares_is_read() -> None:
    text = (FOLDER / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.([a-z-]+)", text)) == ACTION["inputs"].keys()
    assert set(re.findall(r"steps\.gate\.outputs\.([a-z-]+)", text)) == ACTION["outputs"].keys()
    assert all(each["description"] for each in (*ACTION["inputs"].values(), *ACTION["outputs"].values()))
    assert all(each.get("shell") == "bash" for each in ACTION["runs"]["steps"] if "run" in each)


def uses_of_the_action() -> list[dict[str, Any]]:
    steps = [step for job in EXAMPLE["jobs"].values() for step in job["steps"]]
    return [step for step in steps if step["uses"] == f"./{FOLDER.relative_to(ROOT)}"]


def test_the_example_names_what_is_there() -> None:
    found = uses_of_the_action()
    assert len(found) == 3
    assert {name for each in found for name in each.get("with", {})} <= ACTION["inputs"].keys()
    names = [each.get("with", {}).get("artifact", ACTION["inputs"]["artifact"]["default"]) for each in found]
    assert len(set(names)) == len(names), "an artifact is uploaded once"


def test_the_gate_takes_the_arguments_of_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up to where it looks for the repository, which is not here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    arguments = uses_of_the_action()[-1]["with"]["arguments"].replace("${{ github.event.pull_request.base.sha }}", "a")
    assert main(["gate", *arguments.split()]) == 2
    assert capsys.readouterr().err.startswith("error: no git repository here")


GH = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> calls.txt
if [ "$3" = --paginate ]; then printf '%s' "$FOUND"; fi
"""


@pytest.mark.parametrize(
    ("found", "call"),
    [
        ("", "api repos/o/r/issues/7/comments --raw-field"),
        ("31\n32\n", "api --method PATCH repos/o/r/issues/comments/31 "),
    ],
)
def test_a_comment_is_written_once_and_then_replaced(tmp_path: Path, found: str, call: str) -> None:
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    (tmp_path / "summary.md").write_text("gate: pass\n")
    settings = {"NUMBER": "7", "MARK": "<!-- m -->", "FILES": str(tmp_path), "GITHUB_REPOSITORY": "o/r", "FOUND": found}
    environment = {**os.environ, **settings, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    script = step("Comment")["run"]
    subprocess.run(["bash", "-eo", "pipefail", "-c", script], cwd=tmp_path, env=environment, check=True)
    first, last = (tmp_path / "calls.txt").read_text().split("\n", 1)
    assert first.startswith("api repos/o/r/issues/7/comments --paginate") and last.startswith(call)
    assert "body=<!-- m -->\ngate: pass" in last
