"""However a program ends, the report says what was counted until then, and the exit code is the program's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bagel_perf.cli import main
from bagel_perf.records.syncs import SyncReport
from forked_programs import fork_programs

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]
Write = Callable[[str], str]

WAITS = """
import os, signal, sys, threading, time, torch
x = torch.ones(3, device="cuda")
for _ in range(4):
    x.sum().item()
with torch.cuda.nvtx.range("step"):
    x.tolist()
"""
READY = "print('ready', flush=True)\ntime.sleep(60)\n"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a script into an empty current folder; gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    fork_programs(monkeypatch)

    def write(text: str) -> str:
        Path("script.py").write_text(text)
        return "script.py"

    return write


def ended(name: str, *options: str) -> tuple[int, SyncReport]:
    """Exit code and report of a program."""
    arguments = ["syncs", "--device", "cpu", "--quiet", "--json", "out.json", *options, "--", "python", name]
    return main(arguments), SyncReport.from_json(json.loads(Path("out.json").read_text()))


KILLED = "os.kill(os.getpid(), signal.{})\ntime.sleep(9)\n"


@pytest.mark.parametrize(
    ("end", "code", "name"),
    [
        (KILLED.format("SIGTERM"), 143, "SIGTERM"),
        (KILLED.format("SIGKILL"), 137, "SIGKILL"),
        ("os.abort()\n", 134, "SIGABRT"),
        ("import faulthandler\nfaulthandler.dump_traceback_later(0.1, exit=True)\ntime.sleep(9)\n", 1, None),
        ("os.closerange(3, 99)\nos._exit(7)\n", 7, None),
        ("threading.Thread(target=os._exit, args=(0,)).start()\ntime.sleep(9)\n", 0, None),
        ("os.execv('/bin/sh', ['sh', '-c', 'exit 5'])\n", 5, None),
        ("sys.exit(143)\n", 143, None),
        ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n" + KILLED.format("SIGTERM"), 9, None),
        ("import atexit\natexit.register(os.kill, os.getpid(), signal.SIGTERM)\n", 143, "SIGTERM"),
    ],
)
def test_the_report_says_what_was_counted_until_the_end(script: Write, end: str, code: int, name: str | None) -> None:
    found, report = ended(script(WAITS + end), "--budget", "step=1")
    assert (found, report.exit_code, report.signal, report.host_syncs) == (code, code, name, 5)
    assert {(site.kind, site.line, site.region, site.count) for site in report.sites} == {
        ("scalar_read", 5, "", 4),
        ("d2h_copy", 7, "step", 1),
    }
    assert report.witnesses.simulated == 5 and report.used_device and report.unwatched == ()
    (check,) = report.budgets
    assert (check.region, check.limit, check.num_entries, check.worst, check.ok) == ("step", 1, 1, 1, True)


@pytest.mark.usefixtures("real_interpreter")
def test_a_budget_is_judged_by_what_a_killed_program_spent(script: Write, capfd: Capture) -> None:
    text = WAITS.replace("    x.tolist()\n", "    x.tolist()\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    assert ended(script(text), "--budget", "step=0")[0] == 7
    assert "region step waited for the device 1 times (1 of 1 entries over budget)" in capfd.readouterr().err


def test_what_a_killed_program_met_that_nobody_can_judge_leaves_its_budget_open(script: Write, capfd: Capture) -> None:
    text = f"{WAITS}x[:, None].unique(dim=0)\ntorch.ones(2).to(x.device, non_blocking=True)\n"
    code, report = ended(script(text + "os._exit(0)\n"), "--budget", "99")
    assert (code, report.unjudged) == (4, {"aten.unique_dim.default": 1})
    assert report.hazards == {"asynchronous copy of pageable memory": 1}
    assert "budgets are open" in capfd.readouterr().err


GONE = """
import shutil
time.sleep(0.3)
shutil.rmtree(os.environ["BAGEL_PERF_WATCH"])
"""


def test_a_report_that_cannot_be_written_is_made_of_what_was_kept(script: Write) -> None:
    code, report = ended(script(f"{WAITS}{GONE}sys.exit(3)\n"))
    assert (code, report.exit_code, report.host_syncs) == (3, 3, 5)
    assert any("could not be written: path cannot be written" in note for note in report.notes)


@pytest.mark.usefixtures("real_interpreter")
def test_a_program_that_leaves_by_exit_has_its_source_texts_and_its_number(script: Write) -> None:
    _, report = ended(script(f"{WAITS}print(os.getpid(), flush=True)\nos._exit(0)\n"))
    assert {site.expressions for site in report.sites} == {("x.sum().item()",), ("x.tolist()",)}
    (main,) = report.processes
    assert (main.name, main.argv[1:], main.host_syncs, main.exit_code) == ("main", ("script.py",), 5, 0)
    assert main.pid is not None and main.watched and report.notes == ()


@pytest.mark.parametrize(
    "trouble",
    [
        "os.chdir(os.path.realpath('gone'))\nos.rmdir(os.getcwd())\nos.environ.clear()\nos.umask(0o777)\n",
        "sys.stdout.close()\nsys.stderr.close()\n",
        "os.close(1)\nos.close(2)\n",
        "sys.stdout = sys.stderr = None\nsys.path.clear()\n",
    ],
)
def test_a_program_may_leave_its_process_in_any_state(script: Write, trouble: str) -> None:
    Path("gone").mkdir()
    code, report = ended(script(WAITS + trouble))
    assert (code, report.host_syncs, report.signal) == (0, 5, None)


def test_a_fork_that_runs_to_the_programs_end_leaves_the_report_to_the_other(script: Write, capfd: Capture) -> None:
    end = "pid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\nprint('child' if not pid else 'parent')\n"
    code, report = ended(script(WAITS + end + "sys.exit(0 if pid else 3)\n"))
    assert (code, report.host_syncs) == (0, 5)
    assert capfd.readouterr().out == "child\nparent\n"


@pytest.fixture
def job(script: Write) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts bagel-perf on a program in a session of its own; comes back when the program is ready."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bagel_perf", "syncs", "--device", "cpu", "--quiet", "--json", "out.json"]
        command += ["--", "python", "-u", script(text)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        started.append(process)
        assert process.stdout is not None
        while "ready" not in (line := process.stdout.readline()):
            assert line or process.poll() is None
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_bagel_perf_reaches_the_program(job: Callable[[str], subprocess.Popen[str]], number: int) -> None:
    process = job(WAITS + READY)
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    report = SyncReport.from_json(json.loads(Path("out.json").read_text()))
    assert (report.signal, report.host_syncs) == (signal.Signals(number).name, 5)


def test_ctrl_c_to_bagel_perf_alone_is_passed_on_at_once(job: Callable[[str], subprocess.Popen[str]]) -> None:
    told = "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('told', flush=True)\n    time.sleep(9)\n"
    process = job(f"{WAITS}print('ready', flush=True)\n{told}")
    time.sleep(0.3)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None and process.stdout.readline() == "told\n"
    assert time.monotonic() - begun < 1.5
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 137
    assert SyncReport.from_json(json.loads(Path("out.json").read_text())).host_syncs == 5


def test_the_programs_own_handler_runs_and_it_may_go_on(job: Callable[[str], subprocess.Popen[str]]) -> None:
    handler = (
        "def told(number, frame):\n    x.sum().item()\n    print('told', number, flush=True)\n"
        "signal.signal(signal.SIGUSR1, told)\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
    )
    process = job(WAITS + handler + READY)
    assert process.stdout is not None
    for _ in range(2):
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == f"told {signal.SIGUSR1:d}\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    report = SyncReport.from_json(json.loads(Path("out.json").read_text()))
    assert (report.signal, report.exit_code, report.host_syncs) == (None, 143, 7)


def test_the_program_does_not_outlive_bagel_perf(job: Callable[[str], subprocess.Popen[str]]) -> None:
    ignoring = "".join(f"signal.signal(signal.{name}, signal.SIG_IGN)\n" for name in ("SIGTERM", "SIGHUP", "SIGINT"))
    process = job(f"{WAITS}{ignoring}open('pid', 'w').write(str(os.getpid()))\n{READY}")
    pid = int(Path("pid").read_text())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_what_nohup_ignores_the_program_ignores_too(script: Write) -> None:
    name = script("import signal\nprint(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)\n")
    command = ["nohup", sys.executable, "-m", "bagel_perf", "syncs", "--device", "cpu", "--quiet", "--", "python", name]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_signal_of_the_group_is_not_lost(job: Callable[[str], subprocess.Popen[str]]) -> None:
    process = job(WAITS + READY)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(30) == 143
