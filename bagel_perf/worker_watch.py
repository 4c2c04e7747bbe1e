"""Counts host syncs in this process between two calls, which may come on different threads."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

import torch
from msgspec.structs import replace

from bagel_perf.records.errors import EnvironmentUnfit, Inconclusive, UsageError
from bagel_perf.records.syncs import Process, SyncBudgetExceeded
from bagel_perf.simulated import active_device
from bagel_perf.syncs import SyncWatch, processes, watch_host_syncs


class WorkerWatch:
    """One watch at a time, of a whole process with all its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = ExitStack()
        self._watch: SyncWatch | None = None

    def start(self, budgets: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Begins to count; gives this process and its device."""
        with self._lock:
            if self._watch is not None:
                raise UsageError("this process is watched already", value=_name(), remedy="stop_sync_watch ends that")
            if active_device() is None and not torch.cuda.is_available():
                raise EnvironmentUnfit(
                    "no CUDA device here", value=_name(), remedy="without one, start it so: bagel-perf syncs -- COMMAND"
                )
            self._watch = self._open.enter_context(watch_host_syncs("cuda", budgets=budgets))
            return {"process": _name(), "pid": os.getpid(), "device": self._watch.report().device}

    def stop(self) -> dict[str, Any]:
        """Ends counting; gives the report."""
        with self._lock:
            watch, self._watch = self._running(), None
            with suppress(SyncBudgetExceeded, Inconclusive):  # the report says so
                self._open.close()
            return _report(watch)

    def report(self) -> dict[str, Any]:
        """Gives the report so far."""
        with self._lock:
            return _report(self._running())

    def _running(self) -> SyncWatch:
        if self._watch is None:
            raise UsageError("this process is not watched", value=_name(), remedy="start_sync_watch begins that")
        return self._watch


def _name() -> str:
    return processes.title() or processes.name_of_this()


def _report(watch: SyncWatch) -> dict[str, Any]:
    report = watch.report()
    own = Process(
        name=_name(),
        pid=os.getpid(),
        argv=tuple(sys.orig_argv),
        host_syncs=report.host_syncs,
        watched=True,
        used_device=report.used_device,
    )
    return replace(report, subject=own.name, processes=(own, *report.processes)).to_json()


of_this_process = WorkerWatch()
