"""What a watch gathers while processes come and go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bagel_perf.arming.sitecustomize import register
from bagel_perf.commands.following import Following, _script_of, following
from bagel_perf.records.following import ROOT, WatchOrder
from bagel_perf.records.ledger import new_ledger

SITE = {"kind": "scalar_read", "file": "a.py", "line": 3, "function": "f", "region": "", "count": 1}


def leave_counts(folder: Path, stem: str, count: int) -> None:
    ledger = new_ledger(folder / f"{stem}.ledger")
    ledger.set(ledger.slot({"device": "simulated"}), 1)
    ledger.set(ledger.slot({"site": SITE}), count)


def test_a_process_that_has_ended_takes_no_file_descriptor_and_keeps_its_counts(tmp_path: Path) -> None:
    found = Following(tmp_path)
    mine = Path(register(str(tmp_path))).name
    ended = [f"{os.getpid()}-0-{number}" for number in range(50)]
    for stem in ended:
        (tmp_path / f"{stem}.process").write_bytes((tmp_path / f"{mine}.process").read_bytes())
    for stem in (mine, *ended):
        leave_counts(tmp_path, stem, 2)
    before = len(os.listdir("/proc/self/fd"))
    found.look()
    assert len(os.listdir("/proc/self/fd")) == before + 1 and list(found.ledgers) == [mine]
    for path in tmp_path.iterdir():
        path.unlink()
    report, _ = found.gathered(WatchOrder(folder=str(tmp_path), packages="", subject="x"))
    assert report.host_syncs == 2 * 51


ORPHANS = """
import os, sys, time
for number in range(5):
    if not os.fork():
        if not os.fork():
            time.sleep(0.2)
        os._exit(0)
    os.wait()
time.sleep(0.4)
os.execvp("sleep", ["sleep", "0.3"])
"""


def test_orphans_are_let_go_as_they_end_and_are_forks_of_what_was_armed(tmp_path: Path) -> None:
    others = set(children())
    with following(tmp_path) as found:
        command = [sys.executable, "-S", "-c", ORPHANS]
        armed = {"pid": 1, "ppid": 1, "argv": command}
        (tmp_path / "1-0-0.process").write_text(json.dumps(armed))
        found.look()
        process = subprocess.Popen(command)
        (tmp_path / ROOT).write_text(str(process.pid))
        while Path(f"/proc/{process.pid}/cmdline").read_bytes()[:6] != b"sleep\0":
            time.sleep(0.01)
        time.sleep(0.15)
        left = set(children()) - others
        assert left == {process.pid} and process.wait() == 0
    copies = [each for each in found.sightings.values() if each.pid != process.pid]
    assert copies and all(each.is_fork for each in copies)


def children() -> list[int]:
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["-W", "ignore", "/a/train.py", "x"], "train"),
        (["-uc", "print('a/b')"], "-c"),
        (["-m", "pack.module"], "pack.module"),
        (["-", "x"], "-"),
        (["-i"], "python"),
        (["-c", "from multiprocessing.spawn import main", "--multiprocessing-fork"], "a process of multiprocessing"),
    ],
)
def test_a_process_that_never_said_its_name_is_called_by_what_it_runs(words: list[str], name: str) -> None:
    assert _script_of(["python", *words]) == name
