"""A run that is killed loses nothing that it had measured, and a worker that is stopped is noticed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.cli import main
from bagel_perf.launch import Stopped
from bagel_perf.recorder import Recorder, make_image_dir
from bagel_perf.records.errors import RunFailed, UsageError
from bagel_perf.records.events import EnvironmentEvent, RunEvent, WarningEvent
from bagel_perf.records.plans import Plan
from bagel_perf.records.results import LINES_FILE
from bagel_perf.verdicts.reading import load_checked
from scripted import ENVIRONMENT, make_outline, make_plan, make_runs


def recorded(folder: Path, plan: Plan, number: int) -> Recorder:
    """As many runs of a plan as were made before a kill."""
    folder.mkdir(exist_ok=True)
    recorder = Recorder(plan=plan, command="bagel-perf compare", out=folder)
    recorder.on_event(EnvironmentEvent(environment=ENVIRONMENT, outline=make_outline(recorder.plan), pairs=5, warmup=1))
    recorder.on_event(WarningEvent(text="few"))
    for run in list(make_runs(plan))[:number]:
        recorder.on_event(RunEvent(run=run))
    return recorder


def test_a_killed_run_is_read_from_its_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan()
    recorded(tmp_path / "out", plan, 20)
    result = load_checked(tmp_path / "out")
    assert result.runs == tuple(make_runs(plan))[:20]
    assert (result.verdict, result.exit_code, result.complete) == ("incomplete", 6, False)
    assert result.warnings == ("few",) and result.error is not None and "killed" in result.error
    assert main(["show", str(tmp_path / "out")]) == 0
    assert "- ended early: the run did not end; it was killed" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "out"), "--out", str(tmp_path / "page"), "--quiet"]) == 0
    assert main(["gate", "result", str(tmp_path / "out"), "--quiet"]) == 6


def test_a_killed_run_that_chose_its_end_still_says_so(tmp_path: Path) -> None:
    recorded(tmp_path / "fixed", make_plan(), 20)
    assert load_checked(tmp_path / "fixed").looks == ()
    recorded(tmp_path / "auto", replace(make_plan(), pairs=12, resolve_pct=2.0), 20)
    assert load_checked(tmp_path / "auto").looks == (6, 12, 18)


def test_lines_of_two_sizes_hold_more_than_the_result_between_them(tmp_path: Path) -> None:
    plan = make_plan(((256, 256), (64, 32)))
    recorded(tmp_path / "out", plan, 30)
    assert (tmp_path / "out" / "result.json").is_file()
    assert len(load_checked(tmp_path / "out").runs) == 30


def test_the_last_line_may_be_cut_off(tmp_path: Path) -> None:
    recorded(tmp_path / "out", make_plan(), 20)
    path = tmp_path / "out" / LINES_FILE
    path.write_bytes(path.read_bytes()[:-40])
    assert len(load_checked(tmp_path / "out").runs) == 19


@pytest.mark.parametrize("content", ["", "{}\n", '{"schema": "bagel-perf.runs", "version": 1}\n', "[" * 100_000 + "\n"])
def test_lines_that_are_none_are_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / LINES_FILE).write_text(content)
    with pytest.raises(UsageError, match="unfinished result is not usable"):
        load_checked(tmp_path)


@pytest.mark.parametrize("error", [None, RunFailed("out of memory")])
def test_a_result_that_is_written_needs_no_lines(tmp_path: Path, error: RunFailed | None) -> None:
    recorded(tmp_path / "out", make_plan(), 24).finish(error)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["result.json"]


def test_a_run_without_a_result_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recorder = Recorder(plan=make_plan(), command="bagel-perf compare", out=None)
    recorder.on_event(EnvironmentEvent(environment=ENVIRONMENT, outline=make_outline(recorder.plan), pairs=5, warmup=1))
    recorder.finish(RunFailed("out of memory"))
    assert not list((tmp_path / "reports").iterdir())


def test_temporary_folders_of_killed_runs_go_and_those_of_others_stay(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from bagel_perf.recorder import make_image_dir;"
    dead = f"{code} print(make_image_dir(Path({str(tmp_path)!r})))"
    subprocess.run([sys.executable, "-c", dead], check=True)
    (left,) = tmp_path.iterdir()
    own = Path(make_image_dir(tmp_path))
    assert not left.exists() and own.is_dir()
    alive = f"{code} make_image_dir(Path({str(tmp_path)!r}))"
    assert subprocess.run([sys.executable, "-c", alive], capture_output=True, check=False).returncode == 1
    assert own.is_dir()


def test_a_stopped_process_is_told_once_and_so_is_its_end() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        stopped = Stopped(process.pid)
        assert not list(stopped.warnings())
        os.kill(process.pid, signal.SIGSTOP)
        said: list[WarningEvent] = []
        for _ in range(100):
            said += stopped.warnings()
            time.sleep(0.01)
        assert [each.text.partition(" and")[0] for each in said] == ["the worker was stopped"]
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.1)
        assert [each.text.partition(" after")[0] for each in stopped.warnings()] == ["the worker goes on"]
        process.kill()
