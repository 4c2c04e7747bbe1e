"""Watches this process, which a watched command started, from the import of torch to its end.

Without a GPU the simulated device is opened at once. On a GPU the watch begins when the program first reaches CUDA, and
not before: a process that only starts others must not hold the device. What is counted goes into a ledger as it is
counted, and into a report when the process ends, by itself or by ``os._exit``. A fork has files of its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Protocol
from unittest import mock

import torch
from msgspec.structs import replace

from bagel_perf.records.errors import BagelPerfError, Inconclusive
from bagel_perf.records.following import PAUSED, ROOT, WatchOrder
from bagel_perf.records.ledger import Ledger, new_ledger
from bagel_perf.records.store import write_json_atomic
from bagel_perf.records.syncs import SyncBudgetExceeded, SyncReport, Witnesses
from bagel_perf.rules import torch_names
from bagel_perf.simulated import active_device
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import SyncWatch, hearing, processes, regions, watch_capture, watch_host_syncs
from bagel_perf.syncs.blockers import CaptureWatch
from bagel_perf.syncs.budgets import BudgetKeeper
from bagel_perf.syncs.cost import measure_instrument, with_predicted_savings
from bagel_perf.syncs.frames import entries_of
from bagel_perf.syncs.nvtx_ranges import nvtx_ranges_as_regions
from bagel_perf.syncs.processes import watching_processes
from bagel_perf.syncs.raising import budgets_of
from bagel_perf.syncs.regions import recording
from bagel_perf.syncs.window import Window, set_window

QUIET_S = 0.05
"""For threads that no one waits for to come to a stop at the end of the process."""


class Arming(Protocol):
    """What has armed this process: it names the files of processes, and keeps what went wrong."""

    def register(self, folder: str, *, is_fork: bool = False) -> str:
        """Gives the stem of this process's files."""

    def failed(self, stem: str, problem: BaseException) -> None:
        """Leaves why a process could not be watched."""


def begin(order: dict[str, Any], stem: str, arming: Arming) -> Callable[[], None]:
    """Begins to watch this process; gives what ends it."""
    global _followed
    _followed = Followed(WatchOrder.from_json(order), Path(stem), arming)
    _followed.open()
    return _followed.finish


def followed() -> Followed:
    """Gives the watch of this process, which has been begun."""
    assert _followed is not None
    return _followed


_followed: Followed | None = None


class Followed:
    """The watch of one process; ``is_root`` says that it is the command itself."""

    def __init__(self, order: WatchOrder, stem: Path, arming: Arming) -> None:
        self.order = order
        self._arming = arming
        self.uses_gpu = order.device != "cpu" and order.has_gpu and torch.version.cuda is not None
        self.ledger = Ledger()
        self.watch: SyncWatch | None = None
        self.capture: CaptureWatch | None = None
        self._left: list[ExitStack] = []
        self._open = self._until_cuda = ExitStack()
        self._begin_files(stem)

    def _begin_files(self, stem: Path) -> None:
        self.pid, self.stem, self.is_done = os.getpid(), stem, False
        self.is_root = Path(self.order.folder, ROOT).read_text() == str(self.pid)
        self.ledger = new_ledger(stem.with_name(f"{stem.name}.ledger"))
        self.ledger.tell_name(lambda: self.name)
        # Left open: threads of the program may run to the very end. Those of the process that this is a fork of are
        # kept, as they would be closed with their last name.
        self._left += self._open, self._until_cuda
        self._open, self._until_cuda = ExitStack(), ExitStack()
        self.ledger.is_paused = Path(self.order.folder, PAUSED).exists()
        self.keeper = BudgetKeeper(budgets_of(self.order.on_wait, self.order.budgets), self.ledger)
        self.window = Window(self.ledger, self.order.after, self.order.skip_first)
        set_window(self.window)

    @property
    def name(self) -> str:
        """What the process is called: by its title, by multiprocessing, by its rank, or by its script."""
        return processes.title() or ("main" if self.is_root else processes.name_of_this())

    def open(self) -> None:
        """Opens the device where there is no GPU, and begins to watch unless a target is still to be set up."""
        if not self.uses_gpu:
            _show_to_main_thread(self._open.enter_context(SimulatedCuda()))
        if sys.excepthook is sys.__excepthook__:
            sys.excepthook = _print_without_us
        os.register_at_fork(after_in_child=self._forked)
        exit_now = os._exit

        def leave(status: int) -> NoReturn:
            self.finish()
            exit_now(status)

        self._open.enter_context(mock.patch.object(os, "_exit", leave))
        if not self._is_target:
            self._begin()

    def _begin(self) -> None:
        self._open.enter_context(recording(self.window))  # first, as it decides what the keeper makes of an entry
        if not self.uses_gpu:
            self.watch = self._open.enter_context(self.watching())
            return
        # Regions and processes are noticed from the start, also before the device is in use.
        self._open.enter_context(recording(self.keeper))
        self._open.enter_context(nvtx_ranges_as_regions)
        self._open.enter_context(watching_processes(self.ledger))
        self.ledger.set(self.ledger.slot({"device": "cuda"}), self.pid)
        if torch.cuda.is_initialized():  # it was armed long after its start
            self.watch = self._open.enter_context(self.watching())
            return
        place = torch_names.LAZY_INIT.place()
        assert place is not None
        self._until_cuda.enter_context(mock.patch.object(*place, self._initializing(getattr(*place))))

    def _initializing(self, native: Callable[[], None]) -> Callable[[], None]:
        def initialize() -> None:
            native()
            if self.watch is None and not self.is_done and torch.cuda.is_initialized():
                self._until_cuda.close()
                try:
                    self.watch = self._open.enter_context(self.watching())
                except Exception as problem:
                    self._arming.failed(str(self.stem), problem)

        return initialize

    @contextmanager
    def watching(self) -> Iterator[SyncWatch]:
        """The watch itself; the profile is the first process's alone."""
        with ExitStack() as stack:
            if self.order.capture:
                self.capture = stack.enter_context(watch_capture(self.order.capture, "cuda"))
            yield stack.enter_context(self._watching_syncs())

    def _watching_syncs(self) -> AbstractContextManager[SyncWatch]:
        profile = self.uses_gpu and self.is_root and self.order.profile
        keep = None if self.order.trace_path is None or not profile else Path(self.order.trace_path)
        return watch_host_syncs(
            "cuda",
            keeper=self.keeper,
            profile=profile,
            keep_trace=keep,
            ledger=self.ledger,
            quiet_ops=self.order.quiet_ops,
            on_wait=self.order.on_wait,
        )

    def _forked(self) -> None:
        """This process is a copy: what it counts is its own, in files of its own."""
        try:
            hearing.forget()
            regions.forget()
            self.watch = self.capture = None
            keeper, window = self.keeper, self.window
            self._begin_files(Path(self._arming.register(self.order.folder, is_fork=True)))
            self.keeper.inherit(keeper)
            self.window.inherit(window)
            processes.forget()  # not before: else nobody would name a fork that finds no room for its files
            if not torch.cuda.is_initialized() or not self.uses_gpu:
                self._begin()
        except Exception as problem:
            if self.pid == os.getpid():
                self._arming.failed(str(self.stem), problem)

    def finish(self) -> None:
        """Writes the report of this process; nothing that goes wrong here may reach the program."""
        if self.is_done or os.getpid() != self.pid:
            return
        self.is_done = True
        with suppress(ValueError):  # in a thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._quiet_daemons()
            if not self._is_target or self.watch is not None:
                self.write(self.report())
        except Exception as problem:  # the ledger has what this was to write
            name = "" if isinstance(problem, BagelPerfError) else f"{type(problem).__name__}: "
            self.ledger.slot({"failed": f"{name}{problem}"})

    @property
    def _is_target(self) -> bool:
        return self.is_root and self.order.run is not None

    def watch_stages(self, run: Callable[[], int]) -> int:
        """Watches what is run now, and nothing else of this process; gives its exit code."""
        code = 0
        with suppress(SyncBudgetExceeded, Inconclusive), recording(self.window), self.watching() as self.watch:
            code = run()
        return code

    def write(self, report: SyncReport | None, **more: Any) -> None:
        """Writes what was seen of this process, once."""
        self.is_done = True
        path = self.stem.with_name(f"{self.stem.name}.report")
        seen = {} if report is None else {"report": report.to_json()}
        write_json_atomic(path, {"name": self.name, **seen, **more})

    def report(self) -> SyncReport:
        """All that was seen of this process; on a GPU the watch ends with it."""
        if self.watch is None:  # nothing of the program reached CUDA
            return SyncReport(
                device="cuda",
                host_syncs=0,
                unexplained=0,
                sites=(),
                witnesses=Witnesses(),
                subject=self.order.subject,
                budgets=self.keeper.checks(),
                used_device=False,
                copies=(),
            )
        if self.uses_gpu:
            with suppress(SyncBudgetExceeded, Inconclusive):  # judged with those of the other processes
                self._open.close()
        report = self.watch.report(self.order.subject)
        captures = () if self.capture is None else (self.capture.report(self.order.subject),)
        report = replace(report, not_begun=self.window.not_begun, captures=captures)
        return self.with_instrument(report) if self.uses_gpu and self.is_root else report

    def with_instrument(self, report: SyncReport) -> SyncReport:
        """The report with the cost of the instruments, measured after the program so that it met an untouched device.

        What they added to the waits is taken off the predicted savings.
        """
        try:
            instrument = measure_instrument(
                torch.device("cuda"), lambda: watch_host_syncs("cuda", profile=self.order.profile)
            )
        except RuntimeError as problem:  # the program may have left the device in an error
            first = str(problem).partition("\n")[0]
            return replace(report, notes=(*report.notes, f"the cost of the instruments could not be measured: {first}"))
        return replace(report, sites=with_predicted_savings(report.sites, instrument), instrument=instrument)

    def _quiet_daemons(self) -> None:
        """Holds threads that nobody waits for at their next use of the simulated device.

        Python's own end aborts the process if one is inside torch just then.
        """
        device = active_device()
        if device is None or not any(each.daemon for each in threading.enumerate()):
            return
        ending = threading.current_thread()

        def hold() -> bool:
            while threading.current_thread() is not ending:
                time.sleep(3600)
            return False

        self._open.enter_context(device.uses_to(hold))
        time.sleep(QUIET_S)


_PENDING = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_pending: list[Any] = []
"""Functions that Python may still call, which has no other name of them."""


def _show_to_main_thread(device: SimulatedCuda) -> None:
    """Has the main thread see the device, too, where another one imports torch.

    It cannot be inside of a mode of torch, which it has just got, so none is left in another order than it was entered.
    """
    if threading.current_thread() is threading.main_thread():
        return

    def enter(_: object) -> int:
        device.intercepting().__enter__()
        return 0

    _pending.append(_PENDING(enter))
    ctypes.pythonapi.Py_AddPendingCall(_pending[-1], None)


_OURS = str(Path(__file__).parent) + os.sep


def _print_without_us(kind: type[BaseException], problem: BaseException, link: TracebackType | None) -> None:
    """Prints an error that nobody caught as Python does, without our own frames."""
    each: BaseException | None = problem
    seen: set[int] = set()
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        entries = entries_of(each.__traceback__)
        kept = [at for at in entries if not at.tb_frame.f_code.co_filename.startswith(_OURS)]
        rebuilt: TracebackType | None = None
        for at in reversed(kept):
            rebuilt = TracebackType(rebuilt, at.tb_frame, at.tb_lasti, at.tb_lineno)
        each.__traceback__ = rebuilt
        each = each.__cause__ or each.__context__
    sys.__excepthook__(kind, problem, problem.__traceback__)


def flush() -> None:
    """Writes out what the program printed."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
