"""``syncs``: watches a variant, a program or a target, and prints what waits and what to write instead.

A program runs on this terminal and does not outlive this process. Signals that another process sends are passed on to
it at once; those of the terminal have reached it already.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from msgspec.structs import replace

from bagel_perf import launch
from bagel_perf.commands.common import check_json_path, stream_for_people, write_json
from bagel_perf.commands.following import environment, following, tell_root, watch_folder
from bagel_perf.commands.sync_options import Watching, checked_command, subject_text
from bagel_perf.launch import dying_with_parent
from bagel_perf.records.errors import BagelPerfError, EnvironmentUnfit, RunFailed, UsageError
from bagel_perf.records.events import Event, SyncsEvent
from bagel_perf.records.following import PAUSED, STARTED, WatchOrder
from bagel_perf.records.plans import Plan
from bagel_perf.records.syncs import HEADER, SyncReport
from bagel_perf.records.targets import TargetRun
from bagel_perf.report.capture_tables import print_capture
from bagel_perf.report.progress import ProgressView
from bagel_perf.report.sync_tables import print_syncs
from bagel_perf.watch_orders import has_gpu, packages, write_order

GRACE_S = 2.0
"""For a program to end after Ctrl-C, before it is asked again."""
FINISH_S = 120.0
"""For it to end then, and for the profile of a long run to be read."""
POLL_S = 0.5
"""A child that ended before its signal could be waited for is found so much later."""
PASSED_ON = {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT}


def run_supervised(arguments: Sequence[str], stdout: TextIO | None, order: WatchOrder) -> int:
    """Runs a command to its end under an order; gives its exit code, or minus the signal that ended it.

    Raises ``OSError`` where it cannot be started.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _heard())
    try:
        prepare = tell_root(Path(order.folder), _preparation(before))
        # Descriptors that were inherited are the command's as well.
        process = subprocess.Popen(
            arguments, stdout=stdout, env=environment(order), close_fds=False, preexec_fn=prepare
        )
        try:
            _wait(process)
        except KeyboardInterrupt as told:
            _end(process, has_heard=not isinstance(told, _Told))
        return process.wait()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Told(KeyboardInterrupt):
    """Another process sent the signal of Ctrl-C to this one alone; a terminal sends it to the program as well."""


def _heard() -> set[signal.Signals]:
    """The signals that are waited for; Ctrl-C not where it is ignored, as by what runs in the background."""
    heard = {*PASSED_ON, signal.SIGCHLD}
    return heard if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else {*heard, signal.SIGINT}


def _preparation(mask: set[signal.Signals | int]) -> Callable[[], None]:
    """What the child does before it becomes the program."""
    die = dying_with_parent()

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        die()

    return prepare


def _wait(process: subprocess.Popen[bytes], patience_s: float = float("inf")) -> bool:
    """Passes signals on until the program ends, or patience does; gives whether it has ended."""
    end = time.monotonic() + patience_s
    while process.poll() is None and time.monotonic() < end:
        info = signal.sigtimedwait(_heard(), min(POLL_S, patience_s))
        if info is None:
            continue
        is_of_kernel = info.si_code > 0
        if info.si_signo == signal.SIGINT:
            raise KeyboardInterrupt if is_of_kernel else _Told
        if info.si_signo in PASSED_ON and not is_of_kernel:
            process.send_signal(info.si_signo)
    return process.returncode is not None


def _end(process: subprocess.Popen[bytes], *, has_heard: bool) -> None:
    """Lets the program, which may have heard of Ctrl-C itself, end and write its report; a second one ends both."""
    with contextlib.suppress(KeyboardInterrupt):
        if has_heard and _wait(process, GRACE_S):
            return
        process.send_signal(signal.SIGINT)
        if _wait(process, FINISH_S):
            return
    process.kill()


TARGET_MODULE = "bagel_perf.watched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where the report goes: ``top`` rows for people, alike processes ``apart`` or summed; JSON for programs."""

    top: int
    json_path: str | None
    quiet: bool
    apart: bool = False


def watch_variant(plan: Plan, output: Output) -> None:
    """Watches a request under a variant in a worker process; raises where a budget was not kept."""
    check_json_path(output.json_path)
    events: list[Event] = []
    with ProgressView(sys.stderr, quiet=output.quiet) as view:
        launch.run_plan(plan, (events.append, view.on_event))
    reports = [event.report for event in events if isinstance(event, SyncsEvent)]
    if not reports:
        raise RunFailed("the worker watched nothing")
    deliver(reports[:1], output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What was seen of a process, its exit code, the error that a target ended in, and the cases of its file."""

    report: SyncReport
    exit_code: int
    error: BagelPerfError | None = None
    cases: tuple[str, ...] = ()


def watch_program(command: Sequence[str], watching: Watching, output: Output) -> Ended:
    """Runs the command and watches it, with all that it starts."""
    start = checked_command(command)
    return watch_process(start, watching, output, subject=subject_text(command))


def watch_process(
    start: Sequence[str], watching: Watching, output: Output, *, run: TargetRun | None = None, subject: str
) -> Ended:
    """Starts a command, or a run of a target, follows all its processes, and reads what they leave however they end."""
    is_there = has_gpu()
    if watching.device == "cuda" and not is_there:
        raise EnvironmentUnfit("no CUDA device here", remedy="--device cpu counts on the simulated device")
    if watching.trace_path is not None and (not is_there or watching.device == "cpu"):
        raise EnvironmentUnfit("the simulated device has no trace to keep", remedy="drop --keep-trace, or use a GPU")
    with watch_folder() as folder:
        order = WatchOrder(
            folder=str(folder),
            packages=packages(),
            subject=subject,
            run=run,
            device=watching.device,
            has_gpu=is_there,
            profile=watching.profile,
            trace_path=watching.trace_path,
            budgets=watching.budgets,
            quiet_ops=watching.quiet_ops,
            on_wait=watching.on_wait,
            after=watching.after,
            skip_first=watching.skip_first,
            capture=watching.capture,
        )
        write_order(order)
        if watching.is_paused:
            (folder / PAUSED).touch()
        with following(folder) as found:
            ended = _run(start, order, output)
        report, error = found.gathered(order, tuple(start))
        report = replace(report, is_unstarted=watching.is_paused and not (folder / STARTED).exists())
    return Ended(report=as_it_ended(report, ended), exit_code=code_of(ended), error=error, cases=found.cases)


def _run(start: Sequence[str], order: WatchOrder, output: Output) -> int:
    """Runs the command on this terminal, its stdout on stderr where the JSON has stdout for itself."""
    stdout = sys.stderr if output.json_path == "-" else None
    try:
        return run_supervised(start, stdout, order)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise UsageError("command cannot be started", value=start[0], allowed=reason) from problem


def code_of(ended: int) -> int:
    """The exit code that a shell gives: of a process, or 128 and the signal that ended it."""
    return ended if ended >= 0 else 128 - ended


def as_it_ended(report: SyncReport, ended: int) -> SyncReport:
    """The report with what only the parent of the command knows: how it ended."""
    code = code_of(ended)
    first, *others = report.processes
    name = signal.Signals(-ended).name if ended < 0 and -ended in set(signal.Signals) else None
    return replace(report, exit_code=code, signal=name, processes=(replace(first, exit_code=code), *others))


def deliver(reports: Sequence[SyncReport], output: Output) -> None:
    """Prints and writes reports; raises for the first budget that was not kept, or cannot be judged."""
    data = reports[0].to_json() if len(reports) == 1 else {**HEADER, "reports": [each.to_json() for each in reports]}
    lost = write_finally(output.json_path, data)
    if not output.quiet:
        for report in reports:
            stream = stream_for_people(output.json_path)
            print_syncs(report, stream, top=output.top, apart=output.apart)
            for capture in report.captures:
                print_capture(capture, stream, top=output.top)
    if lost is not None:
        raise lost
    for report in reports:
        error = report.budget_error()
        if error is not None:
            raise error


def write_finally(json_path: str | None, data: dict[str, Any]) -> RunFailed | None:
    """Writes a report; gives the error of a file that could be written before the program ran and no longer can."""
    try:
        write_json(json_path, data)
    except UsageError as problem:
        return RunFailed("the report could not be written", value=json_path, remedy=f"its table was printed; {problem}")
    return None
