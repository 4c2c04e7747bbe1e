"""The gate as people call it: the tree passes, a number that moved does not, and --update says why it did."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf import launch
from bagel_perf.cli import main
from bagel_perf.cli.options import GATES
from bagel_perf.commands import gate
from bagel_perf.commands.gate_result import GateOutput
from bagel_perf.records.errors import EnvironmentUnfit
from bagel_perf.records.events import EnvironmentEvent, Event, FailedEvent
from bagel_perf.records.expectations import load_expected
from bagel_perf.records.gates import EXPECTED_FILE, REQUESTS
from bagel_perf.records.plans import Plan
from bagel_perf.report.gates import expected_toml
from scripted import CPU

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = ROOT / EXPECTED_FILE
FEW = ("baseline", "sync_free")
"""Variants that are counted here; ``make gate`` counts all of them on this tree."""
PLAN = Plan(kind="gate", requests=REQUESTS, variants=FEW, preset="tiny", device="cpu")


@pytest.fixture(scope="module")
def counted() -> list[Event]:
    """All that the worker says of this tree and these variants."""
    events: list[Event] = []
    launch.run_plan(PLAN, (events.append,))
    return events


@pytest.fixture
def this_tree(counted: list[Event], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The committed numbers of these variants in a file; commands hear what the worker said once."""

    def run_plan(plan: Plan, listeners: Sequence[Callable[[Event], None]]) -> None:
        assert plan == PLAN
        for event in counted:
            for listener in listeners:
                listener(event)

    monkeypatch.setattr(launch, "run_plan", run_plan)
    monkeypatch.setattr(gate, "VARIANTS", FEW)
    committed = load_expected(EXPECTED)
    path = tmp_path / "few.toml"
    path.write_text(expected_toml(replace(committed, runs=tuple(run for run in committed.runs if run.variant in FEW))))
    return path


def test_the_page_of_a_tree_says_which_one_it_was(this_tree: Path, tmp_path: Path) -> None:
    page = tmp_path / "gate.html"
    assert main(["gate", "--quiet", "--html", str(page), "--expected", str(this_tree)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "The gate passes." in text
    assert re.search(r"latency; (commit [0-9a-f]{7}|no commit).*; .* torch .*; 20.*; [0-9]+ runs</p>", text)


def test_the_tree_passes_and_a_moved_number_does_not(
    this_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved.toml"
    moved.write_text(this_tree.read_text().replace('"uploads" = 4', '"uploads" = 5', 1))
    out, junit, summary = (tmp_path / name for name in ("gate.json", "junit.xml", "summary.md"))
    arguments = ["--json", str(out), "--junit", str(junit), "--summary", str(summary), "--github"]
    assert main(["gate", "--expected", str(moved), *arguments]) == 7
    shown = capsys.readouterr()
    assert "uploads: 4, expected 5 in AR of" in shown.out
    assert "::error title=bagel-perf%3A counters drifted::uploads: 4" in shown.out
    assert shown.err.splitlines()[-1].startswith("error: counters drifted (uploads: 4, expected 5")
    data = json.loads(out.read_text())
    assert (data["schema"], data["verdict"], data["exit_code"]) == ("bagel-perf.gate", "counters drifted", 7)
    assert len(data["findings"]) == 1, "all else in the tree is as expected"
    assert "<failure" in junit.read_text() and "counters drifted" in summary.read_text()


def test_what_the_counts_of_a_tree_may_be_wrong_for_is_a_note_of_its_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def worker(plan: Plan, listeners: Sequence[Callable[[Event], None]]) -> None:
        listeners[0](EnvironmentEvent(environment=CPU, pairs=0, warmup=0, notes=("torch 2.16.0 was not tested",)))
        listeners[0](FailedEvent(variant="baseline", error=EnvironmentUnfit("a kernel changed a setting")))

    monkeypatch.setattr(launch, "run_plan", worker)
    main(["gate", "--expected", str(EXPECTED)])
    assert "note: torch 2.16.0 was not tested" in capsys.readouterr().out


def test_a_tree_that_changes_a_setting_as_it_is_imported_is_a_finding_at_its_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def worker(plan: Plan, listeners: Sequence[Callable[[Event], None]]) -> None:
        for variant in plan.variants:
            error = EnvironmentUnfit("settings changed", value="cuDNN benchmark from False to True at kernels/a.py:3")
            listeners[0](FailedEvent(variant=variant, error=error))

    monkeypatch.setattr(launch, "run_plan", worker)
    path = tmp_path / "gate.json"
    assert main(["gate", "--quiet", "--expected", str(EXPECTED), "--json", str(path)]) == 5
    (finding,) = json.loads(path.read_text())["findings"]
    assert (finding["kind"], finding["file"], finding["line"]) == ("environment", "kernels/a.py", 3)


def test_an_update_writes_what_passes_next_time(
    this_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "tiny.toml"
    assert main(["gate", "--expected", str(path), "--update", "a test"]) == 0
    assert f"written: {path}" in capsys.readouterr().out
    written, committed = load_expected(path), load_expected(this_tree)
    assert written.reason == "a test"
    gate._update(path, replace(written, reason="nothing"), GateOutput(), is_new=False)
    assert "nothing to record" in capsys.readouterr().out and load_expected(path).reason == "a test"
    assert written.runs == committed.runs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--update", " "], 'error: --update without a reason; say why the numbers change: --update "REASON"'),
        (["--expected", "missing.toml"], "error: no expected counters (missing.toml); No such file"),
        (["--junit", "missing/x.xml"], "error: --junit cannot be written there (missing/x.xml)"),
        (["--expected", str(EXPECTED), "--summary", str(EXPECTED)], "error: output would replace what is read (--summ"),
        (
            ["result.json"],
            f"error: gate alone does not take this (result.json); it holds the tree it stands in; {GATES}",
        ),
        (["--reference", "main"], "error: gate alone does not take this (--reference)"),
        (["--limit", "dit:3%", "--quiet"], "error: gate alone does not take this (--limit)"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gate", *arguments]) == 2
    assert capsys.readouterr().err.startswith(message)
