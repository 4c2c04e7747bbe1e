"""The process that measures: reads a plan from stdin, writes events as JSON lines to stdout."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from typing import TextIO

from bagel_perf.measure.gpu_lock import gpu_lock
from bagel_perf.records.errors import BagelPerfError, RunFailed
from bagel_perf.records.events import DoneEvent, ErrorEvent, Event, ProgressEvent, WarningEvent, to_line
from bagel_perf.records.plans import Plan

Emit = Callable[[Event], None]

MAX_MESSAGE = 120
OUT_OF_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "ALLOC_FAILED", "cudaErrorMemoryAllocation")
"""In the messages of CUDA's and the CPU's allocators, cuBLAS and cuDNN, which share no class."""


def main() -> int:
    """Runs one plan; an error is an event like the others, and the exit code 0 also when nobody listens any more."""
    protocol, orders, owner = _claim_stdout(), _claim_stdin(), os.getpid()

    def emit(event: Event) -> None:
        if os.getpid() != owner:  # a fork of somebody's function that went on with what is ours
            os._exit(1)
        protocol.write(to_line(event) + "\n")
        protocol.flush()

    try:
        _run(Plan.from_json(json.loads(orders.readline())), emit, orders)
        emit(DoneEvent())
    except BagelPerfError as error:
        emit(ErrorEvent(error=error))
    except BrokenPipeError:
        return 0
    except Exception as error:  # whatever torch, CUDA or a library raises becomes one line too
        emit(ErrorEvent(error=as_failure(error)))
    return 0


def _run(plan: Plan, emit: Emit, orders: TextIO) -> None:
    if plan.kind == "gate":
        from bagel_perf.subjects.bagel.gate_process import run_gate_process

        run_gate_process(plan, emit, as_failure)
        return
    _run_measurement(plan, emit, orders)


def _run_measurement(plan: Plan, emit: Emit, orders: TextIO) -> None:
    # Not on top of the file: what the gate counts it imports once its device is open, and files know no BAGEL.
    from bagel_perf.measure.compare import run_compare
    from bagel_perf.measure.environment import resolve_device
    from bagel_perf.measure.session import Turns

    turns = Turns(emit=emit, own=plan.own or None, permits=orders)
    if plan.targets:
        from bagel_perf.subjects.file_bench import FileBench

        device = resolve_device(plan.device)
        with gpu_lock(device) if plan.is_first else nullcontext():
            run_compare(plan, FileBench(plan=plan, device=device), turns, emit)
        return
    from bagel_perf.subjects.bagel.bench import BagelBench
    from bagel_perf.subjects.bagel.golden import run_verify
    from bagel_perf.subjects.bagel.loading import load
    from bagel_perf.subjects.bagel.syncs import run_syncs

    def report(text: str, done: int, total: int) -> None:
        emit(ProgressEvent(text=text, done=done, total=total))

    with gpu_lock(resolve_device(plan.device)):  # before the weights, which would disturb whoever is measuring
        if plan.kind == "verify":
            run_verify(plan, emit)
            return
        loaded = load(plan, report, lambda text: emit(WarningEvent(text=text)))
        if plan.kind == "syncs":
            run_syncs(plan, loaded, emit)
        else:
            run_compare(plan, BagelBench(plan=plan, loaded=loaded), turns, emit)


def _claim_stdout() -> TextIO:
    """Keeps stdout for the protocol; whatever else prints there goes to stderr."""
    protocol = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return protocol


def _claim_stdin() -> TextIO:
    """Keeps stdin for the protocol; whoever else reads there finds its end."""
    orders = os.fdopen(os.dup(0), "r", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    return orders


def as_failure(error: Exception) -> RunFailed:
    """An unforeseen error as one line, with its traceback as a note."""
    text = str(error)
    first = text.splitlines()[0][:MAX_MESSAGE] if text else ""
    value = f"{type(error).__name__}: {first}" if first else type(error).__name__
    if isinstance(error, MemoryError) or any(sign in text for sign in OUT_OF_MEMORY_SIGNS):
        failure = RunFailed("out of memory", value=value, remedy="use a smaller request or model, or --device cpu")
    else:
        failure = RunFailed("the worker failed", value=value, remedy="--debug shows where")
    failure.add_note("".join(traceback.format_exception(error)))
    return failure


def start() -> None:
    """Ends the process with the code of ``main``."""
    sys.exit(main())


if __name__ == "__main__":
    start()
