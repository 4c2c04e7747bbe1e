"""Whatever becomes of the worker, what it sent stays, and the reason is one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bagel_perf import launch
from bagel_perf.launch import run_plan
from bagel_perf.records.errors import BagelPerfError, RunFailed, UsageError
from bagel_perf.records.events import Event, RunEvent
from bagel_perf.records.plans import Plan
from scripted import make_plan

UseWorker = Callable[[str], tuple[str, ...]]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(image_dir=str(tmp_path))


def run_to_failure(plan: Plan, command: tuple[str, ...]) -> tuple[list[Event], BagelPerfError]:
    events: list[Event] = []
    with pytest.raises(BagelPerfError) as caught:
        run_plan(plan, [events.append], command)
    assert "\n" not in str(caught.value)
    return events, caught.value


def test_events_arrive_in_order_at_every_listener(plan: Plan, use_worker: UseWorker) -> None:
    first: list[Event] = []
    second: list[Event] = []
    run_plan(plan, [first.append, second.append], use_worker("good"))
    assert first == second
    variants = [event.run.variant for event in first if isinstance(event, RunEvent)]
    assert len(variants) == 3 * (3 + 5)
    assert variants[:4] == ["baseline", "baseline", "baseline", "pr3987"]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("kill", "the worker was killed (signal 9: probably out of memory); almost full"),
        ("exit", "the worker ended early (exit code 3); ZeroDivisionError: division by zero"),
        ("garbage", "the worker sent something that is no event (Loading checkpoint shards: 50%)"),
    ],
)
def test_a_worker_that_dies_leaves_its_events_and_its_last_words(
    plan: Plan, use_worker: UseWorker, behaviour: str, reason: str
) -> None:
    events, error = run_to_failure(plan, use_worker(behaviour))
    assert isinstance(error, RunFailed)
    assert str(error) == reason
    assert sum(isinstance(event, RunEvent) for event in events) == 10


def test_an_error_that_the_worker_sends_is_raised_here(plan: Plan, use_worker: UseWorker) -> None:
    events, error = run_to_failure(plan, use_worker("error"))
    assert isinstance(error, UsageError)
    assert str(error) == "picture cannot be read (x.png)"
    assert events == []


def test_a_worker_that_does_not_start_or_says_nothing_is_explained(plan: Plan) -> None:
    assert "cannot be started" in str(run_to_failure(plan, ("/nonexistent/python",))[1])
    assert "exit code 0" in str(run_to_failure(plan, (sys.executable, "-c", "pass"))[1])


def test_ctrl_c_ends_the_worker_and_what_it_started(plan: Plan, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = (
        "import os, subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}');"
        'print(\'{"event": "warning", "text": "started"}\', flush=True); time.sleep(600)'
    )

    def interrupt(_: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(RunFailed, match=r"^interrupted$"):
        run_plan(plan, [interrupt], (sys.executable, "-c", script))
    assert not [pid for pid in map(int, pids.read_text().split()) if is_running(pid)]


def test_a_worker_that_ignores_the_request_to_end_is_killed(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(launch, "GRACE_S", 0.2)
    script = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); print('hello', flush=True); time.sleep(600)"
    )
    run_to_failure(plan, (sys.executable, "-c", script))
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_a_worker_does_not_outlive_the_process_that_started_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    worker = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); print(flush=True); time.sleep(600)"
    starter = (
        "import subprocess, sys\nfrom bagel_perf.launch import dying_with_parent\n"
        f"command = [sys.executable, '-c', {worker!r}]\n"
        "worker = subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=dying_with_parent())\n"
        "worker.stdout.readline()\nos = __import__('os')\nos.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", starter], cwd=Path(__file__).resolve().parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not is_running(int(pid.read_text()))


def is_running(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent to look does not."""
    for _ in range(20):
        done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
        if done.stdout.strip()[:1] in ("", "Z"):
            return False
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    return True
