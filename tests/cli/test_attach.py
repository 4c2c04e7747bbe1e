"""``syncs --attach PID`` starts, stops and reports the counting of processes that run, and asks nothing of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bagel_perf.cli import main
from bagel_perf.records.syncs import SyncReport

ROOT = Path(__file__).resolve().parents[2]
SERVER = """
import multiprocessing, sys, torch

def worker(pipe):
    x = torch.ones(3, device="cuda")
    while (times := pipe.recv()):
        with torch.cuda.nvtx.range("request"):
            for _ in range(times):
                x.sum().item()
        pipe.send(times)

if __name__ == "__main__":
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=worker, args=(there,), name="worker")
    process.start()
    print("ready", flush=True)
    for line in sys.stdin:
        here.send(int(line))
        print(here.recv(), flush=True)
    here.send(0)
    process.join()
"""


class Server:
    """A server of one worker under a paused watch; a request makes it wait as often as it says."""

    def __init__(self) -> None:
        Path("server.py").write_text(SERVER)
        command = [sys.executable, "-m", "bagel_perf", "syncs", "--device", "cpu", "--paused", "--quiet"]
        command += ["--json", "whole.json", "--budget", "request=3", "--", "python", "server.py"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.answers("ready")

    def answers(self, expected: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == expected

    def request(self, times: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{times}\n")
        self.process.stdin.flush()
        self.answers(str(times))

    def end(self) -> SyncReport:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(30) == 0
        return SyncReport.from_json(json.loads(Path("whole.json").read_text()))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = Server()
    yield found
    found.process.send_signal(signal.SIGKILL)
    found.process.wait()


def attach(pid: int, action: str, *options: str) -> int:
    return main(["syncs", "--attach", str(pid), *options, action])


def reported(pid: int) -> SyncReport:
    assert attach(pid, "report", "--quiet", "--json", "now.json") == 0
    return SyncReport.from_json(json.loads(Path("now.json").read_text()))


def test_requests_between_start_and_stop_are_counted_and_no_others(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    pid = server.process.pid
    server.request(2)
    assert attach(pid, "start") == 0
    server.request(3)
    assert reported(pid).host_syncs == 3
    assert attach(pid, "stop") == 0
    server.request(4)
    seen = reported(pid)
    assert {(site.region, site.count, site.expressions) for site in seen.sites} == {("request", 3, ("x.sum().item()",))}
    assert [(each.name, each.host_syncs) for each in seen.processes if each.used_device] == [("worker", 3)]
    assert attach(pid, "start") == 0
    server.request(1)
    assert reported(pid).host_syncs == 1
    assert "2 processes now counted; next: --attach" in capsys.readouterr().out
    whole = server.end()
    (check,) = whole.budgets
    assert (whole.host_syncs, check.num_entries, check.worst) == (4, 2, 3)


def test_any_process_of_the_server_may_be_named(server: Server) -> None:
    time.sleep(0.2)
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    assert attach(int(children[0]), "stop", "--quiet") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attach", str(os.getpid()), "start"], "nobody watches that process"),
        (["--attach", "4194304", "stop"], "no such process (4194304)"),
        (["--attach", "1", "pause"], "action is not understood (pause); --attach 1 start, stop or report"),
        (["--attach", "1"], "action is not understood (none)"),
        (["--attach", "1", "--budget", "0", "start"], "--budget means nothing beside --attach"),
    ],
)
def test_what_cannot_be_attached_to_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["syncs", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
