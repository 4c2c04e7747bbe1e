"""``syncs FILE.py``: a target is set up, then its stages are watched, in a process of its own; two are compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bagel_perf.cli import main
from bagel_perf.commands import syncs
from bagel_perf.commands.sync_options import Watching
from bagel_perf.commands.sync_targets import Job, watch_target
from bagel_perf.commands.syncs import Ended, Output
from bagel_perf.records.errors import UsageError
from bagel_perf.records.syncs import SyncDifference, SyncReport
from bagel_perf.records.targets import parse_target
from forked_workers import fork_watched

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[2]

LOOP = """
import torch

CASES = {"small": 3, "large": 5}

def setup(device):
    return torch.ones(3, device=device).cpu().to(device)

def plain(state, case, seed):
    for _ in range(case):
        state = state * 2
        if state.sum().item() > 1e9:
            break
    return state

def fast(state, case, seed):
    state = state * 2**case
    if state.sum().item() > 1e9:
        return None
    return state

def stages(state, case, seed):
    yield "double", lambda _: plain(state, case, seed)
    yield "read", torch.Tensor.tolist
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder that nothing may be imported from, with a target in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("torch", "typing", "bagel_perf", "toy"):
        Path(f"{name}.py").write_text("raise SystemExit('imported from the current folder')\n")
    Path("own").mkdir()
    Path("own/toy.py").write_text("VALUE = 1\n")
    Path("own/loop.py").write_text(f"import toy\n{LOOP}")


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process."""

    def start(*_: object, **named: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(syncs.subprocess, "Popen", start)  # type: ignore[attr-defined]


def watched(text: str, *, case: str | None = None, budgets: dict[str, int] | None = None) -> Ended:
    """What is seen of a target, whose process is a fork of this one."""
    watching = Watching(device="cpu", budgets=budgets or {})
    with pytest.MonkeyPatch.context() as patch:
        fork_watched(patch)
        job = Job(watching=watching, output=Output(top=1, json_path=None, quiet=True), case=case)
        return watch_target(parse_target(text), job)


def test_stages_are_regions_and_what_setup_waits_for_is_told_and_not_counted() -> None:
    ended = watched("own/loop.py")
    report = ended.report
    assert ended.error is None and report.used_device
    found = [(site.file, site.function, site.kind, site.region, site.count) for site in report.sites]
    assert found == [
        ("own/loop.py", "plain", "scalar_read", "double", 3),
        ("", "", "d2h_copy", "read", 1),
    ]
    assert report.notes[-2:] == (
        "case small; the others with --case: large",
        "before the stages, as in setup, the host waited 2 times, not counted here",
    )


def test_a_function_and_a_case_are_chosen_and_budgets_are_of_stages() -> None:
    report = watched("own/loop.py:plain", case="large", budgets={"run": 4, "": 5}).report
    assert report.host_syncs == 5
    assert [(check.region, check.worst, check.ok) for check in report.budgets] == [("run", 5, False), ("", 5, True)]
    assert not any("--case" in note for note in report.notes)


def test_a_stage_that_fails_is_reported_as_far_as_it_came() -> None:
    Path("own/bad.py").write_text(f"{LOOP}\n    yield 'fail', lambda _: 1 / 0\n")
    ended = watched("own/bad.py")
    assert (ended.report.host_syncs, ended.report.exit_code, ended.exit_code) == (4, 6, 6)
    assert "stage fail fails (own/bad.py:26)" in str(ended.error)


def test_what_keeps_a_target_from_being_watched_is_one_error() -> None:
    Path("own/bad.py").write_text("def setup(device):\n    1 / 0\ndef run(state, case, seed): ...\n")
    for text, case, message in (
        ("own/bad.py", None, r"setup fails \(own/bad.py:2\); ZeroDivisionError"),
        ("own/loop.py:fats", None, "did you mean fast"),
        ("own/loop.py", "smal", r"unknown case \(smal\); did you mean small"),
    ):
        with pytest.raises(Exception, match=message):
            watched(text, case=case)


def test_targets_are_a_report_each_and_the_current_folder_is_not_imported_from(capfd: Capture) -> None:
    targets = ("own/loop.py:plain", "again=own/loop.py:fast")
    assert main(["syncs", "--device", "cpu", "--case", "large", "--json", "out.json", *targets]) == 0
    out, _ = capfd.readouterr()
    assert "Host syncs of own/loop.py:plain, case large on the simulated device: 5" in out
    assert "Host syncs of again (own/loop.py:fast), case large on the simulated device: 1" in out
    data = json.loads(Path("out.json").read_text())
    assert (data["schema"], data["version"]) == ("bagel-perf.syncs", 1)
    reports = [SyncReport.from_json(each) for each in data["reports"]]
    assert [report.host_syncs for report in reports] == [5, 1]
    assert [report.subject for report in reports] == [
        "own/loop.py:plain, case large",
        "again (own/loop.py:fast), case large",
    ]


def test_two_targets_are_compared_by_what_their_own_functions_do(
    capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork_watched(monkeypatch)
    arguments = ["syncs", "--device", "cpu", "own/loop.py:fast", "--against", "own/loop.py:plain", "--json", "-"]
    assert main(arguments) == 0
    out, err = capfd.readouterr()
    found = SyncDifference.from_json(json.loads(out))
    (change,) = found.changes
    assert (change.change, change.function, change.count_before, change.count_after) == ("fewer", "fast", 3, 1)
    assert "host syncs: 3 -> 1" in err


@pytest.mark.usefixtures("nothing_starts")
def test_reports_are_compared_without_running_anything(capfd: Capture) -> None:
    for name, target in (("before.json", "own/loop.py:plain"), ("after.json", "own/loop.py")):
        Path(name).write_text(json.dumps(watched(target).report.to_json()))
    assert main(["syncs", "after.json", "--against", "before.json"]) == 0
    out = capfd.readouterr().out
    assert "Host syncs of own/loop.py against own/loop.py:plain" in out
    assert "new     0 -> 1  no line of Python  device-to-host copy" in out
    assert "- the same: 3 waits at 1 place" in out and out.endswith("host syncs: 3 -> 4\n")


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["own/none.py"], "file does not exist (own/none.py)"),
        (["own/loop.py:1x"], "target names no function"),
        (["own/loop.py", "baseline"], "target is not understood (baseline)"),
        (["new@own=own/loop.py"], "no Python in that environment (own)"),
        (["own/loop.py", "--preset", "tiny"], "--preset is about BAGEL's variants, not about a target; drop it"),
        (["own/loop.py", "--check-saving"], "--check-saving is about BAGEL's variants"),
        (["own/loop.py", "own/toy.py", "--keep-trace", "x.gz"], "--keep-trace keeps one trace (2 targets)"),
        (["--case", "small"], "--case is about files, not about a variant"),
        (["--case", "small", "--", "python", "x.py"], "--case is about files, not about a program"),
        (["--against", "x.json"], "--against compares a program or a target; name one"),
        (["own/loop.py", "--against", "baseline"], "--against is not understood (baseline)"),
        (["own/loop.py", "--against", "none.json"], "report does not exist (none.json)"),
        (["own/loop.py", "--against", "broken.json"], "report is no JSON (broken.json)"),
        (["own/loop.py", "--against", "other.json"], "report cannot be used (other.json); this is no bagel-perf.syncs"),
        (["own/loop.py", "--against", "several.json"], "file holds several reports (several.json)"),
        (["own/loop.py", "own/toy.py", "--against", "own/loop.py"], "--against compares two (2 and another)"),
        (["own/loop.py", "--against", "own/toy.py", "--budget", "0"], "--budget means nothing beside --against"),
        (["other.json"], "a report is nothing to watch (other.json); compare it"),
        (
            ["--", "own/loop.py"],
            "command is not executable (own/loop.py); a program on PATH, or a path; put python in front",
        ),
    ],
)
def test_what_cannot_be_watched_or_compared_is_one_line(capfd: Capture, arguments: list[str], message: str) -> None:
    Path("broken.json").write_text("{")
    Path("other.json").write_text("{}")
    Path("several.json").write_text('{"schema": "bagel-perf.syncs", "version": 1, "reports": []}')
    assert main(["syncs", *arguments]) == UsageError.exit_code
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")


def test_a_second_ctrl_c_does_not_take_the_report_of_what_was_interrupted(capfd: Capture) -> None:
    again = "os.fsync = lambda _: signal.raise_signal(signal.SIGINT)  # as the report is written"
    Path("own/slow.py").write_text(
        "import os, signal\nimport torch\n\n\ndef setup(device):\n    return torch.ones(3, device=device)\n\n\n"
        f"def run(state, case, seed):\n    state.sum().item()\n    {again}\n    signal.raise_signal(signal.SIGINT)\n"
    )
    ended = watched("own/slow.py")
    assert (ended.exit_code, ended.report.host_syncs, str(ended.error)) == (130, 1, "interrupted (own/slow.py)")
    assert ended.report.used_device and "Traceback" not in capfd.readouterr().err
