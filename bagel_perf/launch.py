"""Runs a plan in a worker process of its own, and passes on what it sends, event by event.

The worker lives in a session of its own, so Ctrl-C reaches this process alone, which then ends the worker. Whatever
happens to the worker, events that have arrived stay with the caller.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from bagel_perf.pythons import module_command, python_of, require_torch
from bagel_perf.records.errors import RunFailed, UsageError
from bagel_perf.records.events import DoneEvent, ErrorEvent, Event, WarningEvent, parse_event
from bagel_perf.records.plans import Plan

WORKER_MODULE = "bagel_perf.worker"
WORKER_COMMAND = module_command(WORKER_MODULE)

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
GRACE_S = 5.0
LOOK_S = 1.0
"""Between two looks at a worker that says nothing."""
PR_SET_PDEATHSIG = 1
LOG_TAIL_BYTES = 8192


Listener = Callable[[Event], None]


def run_plan(plan: Plan, listeners: Sequence[Listener], command: Sequence[str] | None = None) -> None:
    """Runs a plan to its end and calls each listener with each event but the last; ``command`` starts the worker.

    Raises the error that the worker sent, or ``RunFailed`` when it died, spoke nonsense, or was interrupted by Ctrl-C.
    """
    with interruptible(), worker_of(plan, command or WORKER_COMMAND) as worker:
        worker.end_input()
        for event in worker.events:
            for listener in listeners:
                listener(event)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turns Ctrl-C into the error that it ends a run with."""
    try:
        yield
    except KeyboardInterrupt:
        raise RunFailed("interrupted") from None


def check_pythons(plan: Plan) -> None:
    """Raises what a worker of the plan could not be started for, before a folder is made for what it measures."""
    for environment in {target.environment for target in plan.targets} or {None}:
        worker_command(environment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker under way: what it sends, and how to speak to it."""

    process: subprocess.Popen[str]
    events: Generator[Event, None, None]

    def send(self, line: str) -> None:
        """Writes a line to it; one that is dead already is explained by its exit code, which reading finds."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def end_input(self) -> None:
        """Has nothing more to say to it."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


@contextlib.contextmanager
def worker_of(plan: Plan, command: Sequence[str]) -> Iterator[Worker]:
    """Starts a worker and gives it its plan; in the end it is gone, whatever ends it."""
    if command == WORKER_COMMAND:
        require_torch()
    with tempfile.TemporaryFile() as log:
        process = _start(command, log, _environment(plan))
        try:
            worker = Worker(process=process, events=_read(process, log))
            worker.send(json.dumps(plan.to_json()))
            yield worker
        finally:
            _stop(process)


def worker_command(environment: str | None) -> tuple[str, ...]:
    """Starts a worker under the Python of a virtual environment, or ours.

    Raises ``UsageError`` where the environment has no Python, ``EnvironmentUnfit`` where that finds no torch.
    """
    require_torch(python_of(environment), with_ours=environment is not None)
    return WORKER_COMMAND if environment is None else module_command(WORKER_MODULE, environment)


def dying_with_parent() -> Callable[[], None]:
    """What a child does before it becomes a program that must not outlive this process, even where that is killed.

    Linux alone can tell; there the kernel kills the child when the thread that started it is gone.
    """
    parent = os.getpid()
    library = ctypes.CDLL(None) if sys.platform == "linux" else None

    def die_with_parent() -> None:
        if library is not None:
            library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return die_with_parent


def _environment(plan: Plan) -> dict[str, str]:
    """Where only counts matter, one thread a process: several run side by side, whatever the number of cores.

    Threads of a CPU that wait for each other sleep, unless the user says otherwise: on a busy machine spinning ones
    take a thousand times as long as their work.
    """
    if plan.kind == "gate":
        return {**os.environ, **ONE_THREAD}
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}


def _start(command: Sequence[str], log: IO[bytes], environment: dict[str, str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=log,
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            preexec_fn=dying_with_parent(),
        )
    except OSError as problem:
        raise RunFailed("the worker cannot be started", value=command[0], allowed=problem.strerror or "") from problem


def _read(worker: subprocess.Popen[str], log: IO[bytes]) -> Generator[Event, None, None]:
    stopped = Stopped(worker.pid)
    for line in _lines(worker):
        if line is None:
            yield from stopped.warnings()
            continue
        try:
            event = parse_event(line)
        except UsageError as problem:
            what = "the worker sent something that is no event"
            raise RunFailed(
                what, value=line.strip()[:80] or "an empty line", allowed=_last_line(_tail(log))
            ) from problem
        if isinstance(event, ErrorEvent):
            event.error.add_note(_tail(log))
            raise event.error
        if isinstance(event, DoneEvent):
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(GRACE_S)
            return
        yield event
    raise _death(worker.wait(), _tail(log))


def _lines(worker: subprocess.Popen[str]) -> Iterator[str | None]:
    """What the worker writes, line by line; None for each ``LOOK_S`` in which it wrote nothing."""
    assert worker.stdout is not None
    descriptor, rest = worker.stdout.fileno(), b""
    while True:
        if not select.select([descriptor], [], [], LOOK_S)[0]:
            yield None
            continue
        found = os.read(descriptor, 1 << 16)
        *whole, rest = (rest + found).split(b"\n")
        yield from (line.decode("utf-8", errors="replace") for line in whole)
        if not found:
            if rest:
                yield rest.decode("utf-8", errors="replace")
            return


@dataclass(slots=True)
class Stopped:
    """Notices that a process was stopped, as by SIGSTOP or a job control, and says so once, and that it goes on."""

    pid: int
    since_s: float | None = None

    def warnings(self) -> Iterator[WarningEvent]:
        """What has changed since the last call; nothing where the system does not tell."""
        is_stopped = _state(self.pid) == "T"
        if is_stopped and self.since_s is None:
            self.since_s = time.monotonic()
            yield WarningEvent(text=f"the worker was stopped and measures nothing; kill -CONT {self.pid} lets it go on")
        elif not is_stopped and self.since_s is not None:
            seconds, self.since_s = time.monotonic() - self.since_s, None
            yield WarningEvent(text=f"the worker goes on after {seconds:.0f} s; the run in between is no fair sample")


def _state(pid: int) -> str:
    """The letter that Linux has for the state of a process, "" elsewhere."""
    return next(iter(stat_of(pid)), "")


def stat_of(pid: int) -> list[str]:
    """What Linux says of a process behind its name, the state first; nothing of one that is gone, or elsewhere."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _death(exit_code: int, tail: str) -> RunFailed:
    if exit_code < 0:
        number = -exit_code
        cause = "probably out of memory" if number == signal.SIGKILL else signal.strsignal(number) or "unknown"
        error = RunFailed("the worker was killed", value=f"signal {number}: {cause}", allowed=_last_line(tail))
    else:
        error = RunFailed("the worker ended early", value=f"exit code {exit_code}", allowed=_last_line(tail))
    error.add_note(tail)
    return error


def _stop(worker: subprocess.Popen[str]) -> None:
    """Ends the worker and whatever it started: asks first, then kills."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(GRACE_S)
            break
    assert worker.stdout is not None
    worker.stdout.close()


def _tail(log: IO[bytes]) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - LOG_TAIL_BYTES))
    return log.read().decode("utf-8", errors="replace").strip()


def _last_line(text: str) -> str:
    return text.splitlines()[-1].strip()[:200] if text else ""
