"""The process that measures: reads a plan from stdin, writes events as JSON lines to stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TextIO

import torch

from bagel_perf.schema.errors import BagelPerfError, RunFailed
from bagel_perf.schema.events import DoneEvent, ErrorEvent, Event, ProgressEvent, to_line
from bagel_perf.schema.plans import Plan
from bagel_perf.workload.compare import run_compare
from bagel_perf.workload.loading import load
from bagel_perf.workload.verify import run_verify

Emit = Callable[[Event], None]


def main() -> int:
    """Runs one plan; exit code 0 when every event, an error event included, was delivered."""
    protocol = _claim_stdout()

    def emit(event: Event) -> None:
        protocol.write(to_line(event) + "\n")
        protocol.flush()

    try:
        _run(Plan.from_json(json.loads(sys.stdin.readline())), emit)
        emit(DoneEvent())
    except BagelPerfError as error:
        emit(ErrorEvent(error=error))
    except torch.OutOfMemoryError as error:
        emit(ErrorEvent(error=_out_of_memory(error)))
    except MemoryError:
        emit(ErrorEvent(error=RunFailed("out of host memory", remedy="use a smaller --res or --preset tiny")))
    return 0


def _run(plan: Plan, emit: Emit) -> None:
    if plan.kind == "verify":
        run_verify(plan, emit)
        return

    def report(text: str, done: int, total: int) -> None:
        emit(ProgressEvent(text=text, done=done, total=total))

    run_compare(plan, load(plan, report), emit)


def _claim_stdout() -> TextIO:
    """Keeps stdout for the protocol; whatever else prints there goes to stderr."""
    protocol = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return protocol


def _out_of_memory(error: torch.OutOfMemoryError) -> RunFailed:
    first = str(error).splitlines()[0]
    return RunFailed("out of GPU memory", value=first, remedy="use a smaller --res, fewer steps do not help")


if __name__ == "__main__":
    sys.exit(main())
