"""What a watch gathers while processes come and go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bagel_perf.arming.sitecustomize import register
from bagel_perf.commands.following import Following, _script_of
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
    report, _ = found.gathered("x", ())
    assert report.host_syncs == 2 * 51


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
