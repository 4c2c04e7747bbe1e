"""A process is watched wherever torch is imported; a fork that cannot be is named by the one that it is a copy of."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bagel_perf.followed import Followed, _show_to_main_thread
from bagel_perf.records.following import ROOT, WatchOrder
from bagel_perf.records.ledger import open_ledger, unwatched_processes
from bagel_perf.simulated.cuda import SimulatedCuda


def in_a_process(work: Callable[[], object]) -> int:
    """The exit code of a fork of this process that does some work."""
    pid = os.fork()
    if pid == 0:
        exit_now, code = os._exit, 1
        try:
            work()
            code = 0
        finally:
            exit_now(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def use_device() -> None:
    assert torch.ones(2, device="cuda").sum().item() == 2


def on_another_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_the_main_thread_sees_the_device_that_another_thread_has_opened() -> None:
    def work() -> None:
        on_another_thread(lambda: _show_to_main_thread(SimulatedCuda().__enter__()))
        use_device()
        on_another_thread(use_device)

    assert in_a_process(work) == 0


def full(*_: Any, **__: Any) -> str:
    raise OSError("too many open files")


@pytest.mark.parametrize("uses_device", [True, False])
def test_a_fork_that_finds_no_room_for_its_files_is_named_if_it_uses_the_device(
    tmp_path: Path, uses_device: bool
) -> None:
    def work() -> None:
        (tmp_path / ROOT).write_text(str(os.getpid()))
        order = WatchOrder(folder=str(tmp_path), packages="", subject="x", device="cpu")
        arming: Any = SimpleNamespace(register=full, failed=lambda stem, _: Path(f"{stem}.failed").touch())
        Followed(order, tmp_path / "main", arming).open()
        assert in_a_process(use_device if uses_device else os.getpid) == 0

    assert in_a_process(work) == 0
    found = unwatched_processes(open_ledger(tmp_path / "main.ledger").counts())
    assert [each.name.partition(" at ")[0] for each in found] == ["a fork"] * uses_device
    assert not (tmp_path / "main.failed").exists()
