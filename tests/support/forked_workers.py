"""Workers as forks of the test's process, which has imported torch already: a tenth of a second, not three."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TextIO

import pytest

from bagel_perf import launch, watched, worker
from bagel_perf.arming import sitecustomize
from bagel_perf.commands import syncs
from bagel_perf.commands.following import environment, tell_root
from bagel_perf.followed import flush
from bagel_perf.pythons import module_command
from bagel_perf.records.following import WatchOrder


class ForkedWorker:
    """What ``launch`` needs of ``subprocess.Popen``."""

    def __init__(self, log: IO[bytes]) -> None:
        plans, to_worker = os.pipe()
        from_worker, events = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.close(to_worker)
            os.close(from_worker)
            become_worker(plans, events, log.fileno())
        os.close(plans)
        os.close(events)
        self.stdin: Any = os.fdopen(to_worker, "w", encoding="utf-8")
        self.stdout: Any = os.fdopen(from_worker, "r", encoding="utf-8")

    def wait(self, timeout: float | None = None) -> int:
        """Ends it first, where somebody waits for no longer than a time: nothing of it is to be finished then."""
        if self.returncode is None:
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def become_worker(plans: int, events: int, log: int) -> None:
    """Does what ``python -m bagel_perf.worker`` does, in a session of its own, and ends the process."""
    code = 1
    try:
        os.setsid()
        for descriptor, number in ((plans, 0), (events, 1), (log, 2)):
            os.dup2(descriptor, number)
        sys.stdin = os.fdopen(0, "r", encoding="utf-8", closefd=False)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
        code = worker.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        with suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


def fork_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has comparisons fork their workers, but for those of another Python."""
    start = launch._start

    def started(command: Sequence[str], log: IO[bytes], environment: dict[str, str]) -> Any:
        return ForkedWorker(log) if command == launch.WORKER_COMMAND else start(command, log, environment)

    monkeypatch.setattr(launch, "_start", started)


def fork_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has ``syncs`` and ``gate counts`` fork the processes of targets, but for those of another Python."""
    supervised = syncs.run_supervised

    def run(arguments: Sequence[str], stdout: TextIO | None, order: WatchOrder) -> int:
        if tuple(arguments) != module_command(syncs.TARGET_MODULE, None):
            return supervised(arguments, stdout, order)
        pid = os.fork()
        if pid == 0:
            become_watched(order)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)

    monkeypatch.setattr(syncs, "run_supervised", run)


def become_watched(order: WatchOrder) -> None:
    """Does what ``python -m bagel_perf.watched`` does under the order of a target, and ends the process."""
    exit_now, code = os._exit, 1
    try:
        tell_root(Path(order.folder), lambda: None)()
        os.environ.update(environment(order))
        atexit._clear()
        sitecustomize.arm()
        code = watched.main()
        atexit._run_exitfuncs()
    finally:
        flush()
        exit_now(code)
