"""The worker of the gate: a process for each variant, which opens the simulated device before it imports a kernel.

In one process a variant could hand on what another computed. Each is forked from this one, which has imported torch,
what measures and nothing else of the tree, and has called nothing of torch: to start each anew took three seconds of a
core. And a function of ``torch.cuda`` is the device's under whatever name a module keeps it: an alias, a default
argument, a member of a table.
"""

from __future__ import annotations

import os
import selectors
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from bagel_perf.measure.settings import SETTERS, Watched, changes_text, hearing_setters, settings_changed
from bagel_perf.records.errors import BagelPerfError, EnvironmentUnfit, RunFailed
from bagel_perf.records.events import ErrorEvent, Event, FailedEvent, ProgressEvent, parse_event, to_line
from bagel_perf.records.plans import Plan
from bagel_perf.simulated import SimulatedCuda

Emit = Callable[[Event], None]

MAX_PROCESSES = 4
"""Each takes a core and half a gigabyte."""


def run_gate_process(plan: Plan, emit: Emit, as_failure: Callable[[Exception], BagelPerfError]) -> None:
    """Counts the variants of a plan; an error of one is an event, and the others go on."""
    if sys.flags.optimize:
        raise EnvironmentUnfit(
            "asserts are left out",
            value=f"PYTHONOPTIMIZE={sys.flags.optimize}",
            allowed="expected numbers are those of code with its asserts",
            remedy="unset PYTHONOPTIMIZE",
        )
    waiting = list(plan.variants)
    progress = _Progress(emit, len(waiting))
    with selectors.DefaultSelector() as selector:
        while waiting or selector.get_map():
            while waiting and len(selector.get_map()) < num_processes():
                child = _forked(replace(plan, variants=(waiting.pop(0),)), as_failure)
                selector.register(child.reading, selectors.EVENT_READ, child)
            for key, _ in selector.select():
                if not key.data.read(progress.take):
                    selector.unregister(key.fd)
                    key.data.close(progress.take)


def num_processes() -> int:
    """As many as there are cores for, which may be fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MAX_PROCESSES, cores))


@dataclass(slots=True)
class _Progress:
    """Passes events on; what is about to be done is a part of all that is done by all processes."""

    emit: Emit
    number: int
    done: int = 0

    def take(self, event: Event) -> None:
        if isinstance(event, ProgressEvent):
            total = self.number * event.total
            event = replace(event, done=min(self.done, total), total=total)
            self.done += 1
        self.emit(event)


@dataclass(slots=True, kw_only=True)
class _Child:
    """The process of a variant, and what it has sent of the line that it is about to end."""

    variant: str
    pid: int
    reading: int
    rest: bytearray = field(default_factory=bytearray)
    failed: bool = False

    def read(self, emit: Emit) -> bool:
        """Passes on what has come; whether there may be more."""
        came = os.read(self.reading, 1 << 16)
        self.rest += came
        *lines, rest = self.rest.split(b"\n")
        self.rest = bytearray(rest)
        for line in lines:
            event = parse_event(line.decode())
            if isinstance(event, ErrorEvent):
                self.failed = True
                event = FailedEvent(variant=self.variant, error=event.error)
            emit(event)
        return bool(came)

    def close(self, emit: Emit) -> None:
        """Waits for the end of the process; one that died without a word is an error, too."""
        os.close(self.reading)
        _, status = os.waitpid(self.pid, 0)
        if status and not self.failed:
            code = os.waitstatus_to_exitcode(status)
            emit(FailedEvent(variant=self.variant, error=RunFailed(f"the process of {self.variant} died", value=code)))


def _forked(plan: Plan, as_failure: Callable[[Exception], BagelPerfError]) -> _Child:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return _Child(variant=plan.variants[0], pid=pid, reading=reading)
    status = 1
    try:
        os.close(reading)
        with os.fdopen(writing, "w", buffering=1) as pipe:
            _counted(plan, lambda event: print(to_line(event), file=pipe), as_failure)
        status = 0
    finally:
        os._exit(status)  # nothing of the other process is to be flushed or ended here


def _counted(plan: Plan, emit: Emit, as_failure: Callable[[Exception], BagelPerfError]) -> None:
    try:
        count_variants(plan, emit)
    except BagelPerfError as error:
        emit(ErrorEvent(error=error))
    except BrokenPipeError:
        return
    except Exception as error:
        emit(ErrorEvent(error=as_failure(error)))


def count_variants(plan: Plan, emit: Emit) -> None:
    """Counts in this process; raises EnvironmentUnfit where the tree changes a setting as it is imported."""
    watched, simulated = Watched(), SimulatedCuda()
    with simulated, hearing_setters(SETTERS) as places:
        from bagel_perf.subjects.bagel import gate, loading
    if watched.compare():
        place = f" at {places[0]}" if places else ""
        raise settings_changed(f"{changes_text(watched.changes)}{place}, by an import")

    def report(text: str, done: int, total: int) -> None:
        """Weights are made in no time."""

    gate.run_gate(plan, loading.load(plan, report), emit, simulated, watched)
