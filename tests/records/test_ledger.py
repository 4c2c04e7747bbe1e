"""A ledger is read whole by another process, whatever became of the one that wrote it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from bagel_perf.records import ledger as module
from bagel_perf.records.ledger import Ledger, new_ledger, open_ledger


def test_a_process_that_is_killed_leaves_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    child = os.fork()
    if not child:
        mine = new_ledger(path)
        first, second = mine.slot({"a": "ä\n"}), mine.slot({"b": 2})
        for _ in range(3):
            mine.add(first)
        mine.set(second, 2**40)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    ledger = open_ledger(path)
    path.unlink()
    assert ledger.read() == [({"a": "ä\n"}, 3), ({"b": 2}, 2**40)]


def test_a_fork_changes_no_number_but_the_one_that_it_is_given() -> None:
    ledger = Ledger()
    first, second = ledger.slot({"a": 1}), ledger.slot({"b": 1})
    child = os.fork()
    if not child:
        ledger.add(first)
        ledger.set(first, 9)
        ledger.add(ledger.slot({"c": 1}))
        ledger.mark(second, os.getpid())
        os._exit(0)
    os.waitpid(child, 0)
    assert ledger.read() == [({"a": 1}, 0), ({"b": 1}, child)]


def test_what_finds_no_room_is_counted_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NUM_SLOTS", 3)
    ledger = Ledger()
    slots = [ledger.slot({"n": number}) for number in range(5)]
    for slot in slots:
        ledger.add(slot)
    assert slots == [1, 2, 0, 0, 0] and ledger.num_lost == 3
    assert ledger.read() == [({"n": 0}, 1), ({"n": 1}, 1)]


def test_who_reads_a_ledger_that_is_being_made_writes_nothing_into_it(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    path.write_bytes(bytes(module.SIZE))
    ledger = open_ledger(path)
    assert ledger.read() == [] and not any(path.read_bytes())
    ledger.add(ledger.slot({"a": 1}))
    ledger.set(1, 5)
    assert not any(path.read_bytes())
