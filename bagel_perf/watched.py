"""Runs somebody's Python program, or a target, and watches it, on a GPU or on the simulated device.

Started by ``start`` with ORDER TARGET ARGS..., where ORDER is a ``ScriptOrder`` as JSON (see ``pythons``). The program
keeps its streams, its arguments and its exit code; the report, or the error that kept it from being watched,
goes to the file that the order names. CUDA is in use before the program begins, so CUDA_VISIBLE_DEVICES has to be set
outside of it. Of a target the stages are watched; what its ``setup`` waited for is told and not counted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import torch
from msgspec.structs import replace

from bagel_perf.program import Prepared, prepare, run_program
from bagel_perf.records.errors import INTERRUPTED, BagelPerfError, EnvironmentUnfit, Inconclusive, error_to_json
from bagel_perf.records.ledger import Ledger, inherited_ledger
from bagel_perf.records.store import write_json_atomic
from bagel_perf.records.syncs import SyncReport
from bagel_perf.records.targets import ScriptOrder
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import SyncBudgetExceeded, SyncWatch, watch_host_syncs
from bagel_perf.syncs.cost import measure_instrument, with_predicted_savings


def main() -> int:
    """Runs the program; gives its exit code, whatever the watch found."""
    order = ScriptOrder.from_json(json.loads(sys.argv[1]))
    sys.argv = sys.argv[2:]
    ledger = Ledger() if order.ledger is None else inherited_ledger(order.ledger)
    codes: list[int] = []
    try:
        # Never closed: daemon threads of the program end with the process, and not before.
        _write(order, run_order(order, ExitStack(), ledger, codes.append))
    except BagelPerfError as problem:
        if not codes:
            _write(order, {"error": error_to_json(problem)})
            return problem.exit_code
        ledger.slot({"failed": str(problem)})
    except KeyboardInterrupt:  # while a target was set up
        if not codes:
            return INTERRUPTED
    except Exception as problem:  # the program may have left anything behind: what was counted is in the ledger
        if not codes:
            raise
        ledger.slot({"failed": f"{type(problem).__name__}: {problem}"})
    return codes[0]


def _write(order: ScriptOrder, outcome: dict[str, Any]) -> None:
    write_json_atomic(Path(order.report_path), outcome)


def run_order(order: ScriptOrder, device: ExitStack, ledger: Ledger, end: Callable[[int], None]) -> dict[str, Any]:
    """What was seen of the program, and the error of a target, as JSON; ``end`` is told the exit code.

    The simulated device is opened in ``device``, for as long as threads of the program may run. Raises
    ``EnvironmentUnfit`` where it cannot run as ordered.
    """
    has_gpu = torch.cuda.is_available()
    if order.device == "cuda" and not has_gpu:
        raise EnvironmentUnfit("no CUDA device here", remedy="--device cpu counts on the simulated device")
    uses_gpu = has_gpu and order.device != "cpu"
    if order.trace_path is not None and not uses_gpu:
        raise EnvironmentUnfit("the simulated device has no trace to keep", remedy="drop --keep-trace, or use a GPU")
    if not uses_gpu:
        device.enter_context(SimulatedCuda())
    prepared = None if order.run is None else prepare(order.run)
    report = watched(order, ledger, end, prepared, profile=order.profile and uses_gpu)
    if prepared is not None:
        report = prepared.told(report)
    if uses_gpu and report.exit_code != INTERRUPTED:
        report = with_instrument(report, profile=order.profile)
    error = None if prepared is None else prepared.error
    return {"report": report.to_json(), **({} if error is None else {"error": error_to_json(error)})}


def watched(
    order: ScriptOrder, ledger: Ledger, end: Callable[[int], None], prepared: Prepared | None, *, profile: bool
) -> SyncReport:
    """What was seen of the program, or of what was prepared; one that fails is reported as far as it came."""
    code, owner = 0, os.getpid()
    run = partial(run_program, sys.argv[0], is_module=order.is_module) if prepared is None else prepared.run
    keep = None if order.trace_path is None else Path(order.trace_path)
    with (
        suppress(SyncBudgetExceeded, Inconclusive),
        watching(order.budgets, order.quiet_ops, profile=profile, keep_trace=keep, ledger=ledger) as watch,
        nullcontext() if profile else _reporting_at_once(order, watch),
    ):
        code = run()
        if os.getpid() != owner:  # a fork that ran to the end of the program
            end_at_once(code)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # from here on there is a report to finish
        end(code)
    return replace(watch.report(order.subject), exit_code=code)


@contextmanager
def _reporting_at_once(order: ScriptOrder, watch: SyncWatch) -> Iterator[None]:
    """Has ``os._exit`` leave a whole report, source texts included; what a ledger keeps has none."""
    exit_now, owner = os._exit, os.getpid()

    def leave(status: int) -> NoReturn:
        if os.getpid() == owner:
            with suppress(Exception):  # the ledger has what this was to write
                _write(order, {"report": watch.report(order.subject).to_json()})
        exit_now(status)

    with mock.patch.object(os, "_exit", leave):
        yield


def watching(
    budgets: dict[str, int],
    quiet_ops: dict[str, str],
    *,
    profile: bool,
    keep_trace: Path | None = None,
    ledger: Ledger | None = None,
) -> AbstractContextManager[SyncWatch]:
    """All instruments at once: a program runs only once."""
    return watch_host_syncs(
        "cuda", budgets=budgets, profile=profile, keep_trace=keep_trace, ledger=ledger, quiet_ops=quiet_ops
    )


def with_instrument(report: SyncReport, *, profile: bool) -> SyncReport:
    """The report with the cost of the instruments, measured after the program so that it met an untouched device.

    What they added to the waits is taken off the predicted savings.
    """
    try:
        instrument = measure_instrument(torch.device("cuda"), lambda: watching({}, {}, profile=profile))
    except RuntimeError as problem:  # the program may have left the device in an error
        first = str(problem).partition("\n")[0]
        return replace(report, notes=(*report.notes, f"the cost of the instruments could not be measured: {first}"))
    return replace(report, sites=with_predicted_savings(report.sites, instrument), instrument=instrument)


def _end(code: int) -> None:
    """Ends at once where daemon threads run: Python's own end aborts the process if one is inside torch just then."""
    if any(thread.daemon for thread in threading.enumerate()):
        end_at_once(code)
    sys.exit(code)


def end_at_once(code: int) -> NoReturn:
    """Ends the process with what it printed, and nothing else."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def start() -> None:
    """Runs the order of the command line, and ends the process."""
    _end(main())
