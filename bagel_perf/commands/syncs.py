"""``syncs``: watches a variant, a program or a target, and prints what waits and what to write instead.

A program runs on this terminal and does not outlive this process. Signals that another process sends are passed on to
it at once; those of the terminal have reached it already.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from msgspec.structs import replace

from bagel_perf import launch
from bagel_perf.commands.common import check_json_path, stream_for_people, write_json
from bagel_perf.launch import dying_with_parent
from bagel_perf.pythons import program_arguments, require_torch
from bagel_perf.records.errors import INTERRUPTED, BagelPerfError, RunFailed, UsageError, error_from_json
from bagel_perf.records.events import Event, SyncsEvent
from bagel_perf.records.ledger import process_id, recovered_report, shared_ledger, unwatched_processes
from bagel_perf.records.plans import Device, Plan
from bagel_perf.records.syncs import HEADER, Process, SyncReport
from bagel_perf.records.targets import ScriptOrder, TargetRun, is_target
from bagel_perf.report.progress import ProgressView
from bagel_perf.report.sync_tables import print_syncs

GRACE_S = 2.0
"""For a program to end after Ctrl-C, before it is asked again."""
FINISH_S = 120.0
"""For it to end then, and for the profile of a long run to be read."""
POLL_S = 0.5
"""A child that ended before its signal could be waited for is found so much later."""
PASSED_ON = {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT}


def run_supervised(arguments: Sequence[str], stdout: TextIO | None, descriptors: Sequence[int]) -> int:
    """Runs a command to its end; gives its exit code, or minus the signal that ended it.

    Raises ``OSError`` where it cannot be started.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    try:
        prepare = _preparation(before)
        process = subprocess.Popen(arguments, stdout=stdout, pass_fds=descriptors, preexec_fn=prepare)
        try:
            _wait(process)
        except KeyboardInterrupt:
            _end(process)
        return process.wait()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
        info = signal.sigtimedwait({*PASSED_ON, signal.SIGCHLD}, min(POLL_S, patience_s))
        if info is not None and info.si_signo in PASSED_ON and info.si_code <= 0:  # else it is the kernel's
            process.send_signal(info.si_signo)
    return process.returncode is not None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Lets the program end and its report be written; a second Ctrl-C ends both at once.

    Ctrl-C has reached the program from the terminal, a signal to this process alone has not.
    """
    with contextlib.suppress(KeyboardInterrupt):
        if _wait(process, GRACE_S):
            return
        process.send_signal(signal.SIGINT)
        if _wait(process, FINISH_S):
            return
    process.kill()


SCRIPT_MODULE = "bagel_perf.watched"
FLAGS_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where the report goes: ``top`` rows for people, JSON for programs."""

    top: int
    json_path: str | None
    quiet: bool


def parse_budgets(texts: Sequence[str]) -> dict[str, int]:
    """Budgets by region of ``N`` (the whole program) and ``REGION=N``; ``UsageError`` for anything else."""
    budgets: dict[str, int] = {}
    for text in texts:
        region, _, number = text.rpartition("=")
        if not number.isdecimal() or ("=" in text and not region):
            raise UsageError("budget is not understood", value=text, allowed="N or REGION=N, as 0 or step=2")
        if region in budgets:
            raise UsageError("budget is given twice", value=region or "the whole", remedy="name each --budget once")
        budgets[region] = int(number)
    return budgets


def parse_quiet_ops(texts: Sequence[str]) -> dict[str, str]:
    """Reasons by operator of ``NAME=REASON``; ``UsageError`` for anything else."""
    quiet: dict[str, str] = {}
    for text in texts:
        name, _, reason = (part.strip() for part in text.partition("="))
        if not name or not reason:
            remedy = "say why the operator does not wait"
            raise UsageError("quiet operator is not understood", value=text, allowed="NAME=REASON", remedy=remedy)
        if name in quiet:
            raise UsageError("quiet operator is given twice", value=name, remedy="name each --quiet-op once")
        quiet[name] = reason
    return quiet


Subject = Literal["variant", "program", "target"]

OF_VARIANTS = "variant res task image prompt steps seed preset weights attention check-saving pairs"


def subject_of(command: Sequence[str] | None, *, has_dashes: bool) -> Subject:
    """What the arguments of the command line name; what stands behind ``--`` is a program."""
    if not command:
        return "variant"
    return "program" if has_dashes or not (is_target(command[0]) or is_report(command[0])) else "target"


def is_report(text: str) -> bool:
    """Whether an argument names a file that ``syncs --json`` wrote."""
    return text.endswith(".json")


def refuse_idle_options(given: frozenset[str], subject: Subject, *, profile: bool) -> None:
    """Raises ``UsageError`` for an option that would mean nothing beside the others."""
    of_variants = [name for name in OF_VARIANTS.split() if f"--{name}" in given]
    if subject == "target" and "seed" in of_variants:
        of_variants.remove("seed")
    if subject != "variant" and of_variants:
        raise UsageError(
            f"--{of_variants[0]} is about BAGEL's variants, not about a {subject}",
            remedy="drop it, or put it after -- if it is the program's own" if subject == "program" else "drop it",
        )
    if subject == "variant" and "--quiet-op" in given:
        raise UsageError("--quiet-op is about a program", remedy="drop it: all that variants call is judged")
    if subject == "variant" and "--against" in given:
        remedy = "name one: syncs FILE.py --against OTHER.py"
        raise UsageError("--against compares a program or a target", remedy=remedy)
    if "--case" in given and subject != "target" and "--against" not in given:
        raise UsageError(f"--case is about files, not about a {subject}", remedy="drop it, or name a FILE.py")
    for option, is_idle, remedy in (
        ("--pairs", "--check-saving" not in given, "add --check-saving"),
        ("--check-saving", not profile, "leave --no-profile out"),
        ("--keep-trace", not profile, "leave --no-profile out"),
    ):
        if option in given and is_idle:
            raise UsageError(f"{option} means nothing here", remedy=f"{remedy}, or drop it")


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
class Program:
    """A Python command, taken apart: interpreter, its flags, and the script or module with its arguments."""

    interpreter: str
    flags: tuple[str, ...]
    is_module: bool
    target: tuple[str, ...]


def parse_command(command: Sequence[str]) -> Program:
    """The parts of ``python [flags] script.py ...`` or ``python [flags] -m module ...``; else ``UsageError``.

    A bare ``python`` is the one that runs bagel-perf; a path to an interpreter is taken as it is.
    """
    name, rest = command[0], list(command[1:])
    if not os.path.basename(name).startswith("python"):
        raise UsageError(
            "only Python programs can be watched",
            value=name,
            allowed="python script.py ..., python -m module ...",
            remedy=f"put python in front: syncs -- python {name}" if name.endswith(".py") else "name the script",
        )
    flags: list[str] = []
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c", "-"):
        flags.append(rest.pop(0))
        if flags[-1] in FLAGS_WITH_VALUE and rest:
            flags.append(rest.pop(0))
    is_module = rest[:1] == ["-m"]
    target = rest[is_module:]
    if not target or target[0] in ("-c", "-"):
        raise UsageError("no script to watch", value=" ".join(command), allowed="python script.py, python -m module")
    if not is_module and not Path(target[0]).is_file():
        raise UsageError("script does not exist", value=target[0])
    interpreter = name if os.path.dirname(name) else sys.executable
    return Program(interpreter=interpreter, flags=tuple(flags), is_module=is_module, target=tuple(target))


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """How a program or a target is watched; ``trace_path`` is where the profile's trace is kept."""

    device: Device = "auto"
    budgets: dict[str, int] = field(default_factory=dict)
    quiet_ops: dict[str, str] = field(default_factory=dict)
    profile: bool = True
    trace_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What was seen of a process, its exit code, and the error that a target ended in."""

    report: SyncReport
    exit_code: int
    error: BagelPerfError | None = None


def watch_program(command: Sequence[str], watching: Watching, output: Output) -> Ended:
    """Runs the command and watches it."""
    program = parse_command(command)
    require_torch(program.interpreter)
    start = (program.interpreter, *program.flags, *program_arguments(SCRIPT_MODULE))
    return watch_process(start, program.target, watching, output, is_module=program.is_module)


def watch_process(
    start: Sequence[str],
    target: Sequence[str],
    watching: Watching,
    output: Output,
    *,
    is_module: bool = False,
    run: TargetRun | None = None,
    subject: str = "",
) -> Ended:
    """Starts a process that watches a program, or a run of a target, and reads what it leaves however it ends."""
    subject = subject or " ".join(target)
    with tempfile.TemporaryDirectory(prefix="bagel_perf_") as folder, shared_ledger() as (ledger, descriptor):
        report_path = Path(folder, "report.json")
        order = ScriptOrder(
            report_path=str(report_path),
            subject=subject,
            is_module=is_module,
            run=run,
            device=watching.device,
            profile=watching.profile,
            trace_path=watching.trace_path,
            budgets=watching.budgets,
            quiet_ops=watching.quiet_ops,
            ledger=descriptor,
        )
        ended = _run([*start, json.dumps(order.to_json()), *([] if run else target)], descriptor, output)
        report, error = _read_report(report_path)
        report = report or recovered_report(ledger, subject)
        main = Process(name="main", pid=process_id(ledger), argv=tuple(target), watched=True)
        others = unwatched_processes(ledger)
    if report is None:
        raise _vanished(ended)
    return Ended(report=as_it_ended(report, ended, main, others), exit_code=code_of(ended), error=error)


def _run(arguments: Sequence[str], descriptor: int, output: Output) -> int:
    """Runs the program on this terminal, its stdout on stderr where the JSON has stdout for itself."""
    stdout = sys.stderr if output.json_path == "-" else None
    try:
        return run_supervised(arguments, stdout, (descriptor,))
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise UsageError("interpreter cannot be started", value=arguments[0], allowed=reason) from problem


def code_of(ended: int) -> int:
    """The exit code that a shell gives: of a process, or 128 and the signal that ended it."""
    return ended if ended >= 0 else 128 - ended


def _read_report(path: Path) -> tuple[SyncReport | None, BagelPerfError | None]:
    """The report that the process left, None without one, and the error that its target ended in.

    Raises the error that kept it from being watched.
    """
    if not path.exists():
        return None, None
    outcome = json.loads(path.read_text(encoding="utf-8"))
    error = error_from_json(outcome["error"]) if "error" in outcome else None
    if error is not None and "report" not in outcome:
        raise error
    return SyncReport.from_json(outcome["report"]), error


def _vanished(ended: int) -> RunFailed:
    if code_of(ended) == INTERRUPTED:
        return RunFailed("interrupted", value="before the program was watched")
    return RunFailed(
        "the program ended before it was watched",
        value=f"signal {-ended}" if ended < 0 else f"exit code {ended}",
        remedy="it may have been killed, or use a Python without bagel-perf",
    )


def as_it_ended(report: SyncReport, ended: int, main: Process, others: Sequence[Process]) -> SyncReport:
    """The report with what only the parent of the program knows: how it ended."""
    code = code_of(ended)
    main = replace(main, exit_code=code, host_syncs=report.host_syncs)
    name = signal.Signals(-ended).name if ended < 0 and -ended in set(signal.Signals) else None
    return replace(report, exit_code=code, signal=name, processes=(main, *others))


def deliver(reports: Sequence[SyncReport], output: Output) -> None:
    """Prints and writes reports; raises for the first budget that was not kept, or cannot be judged."""
    data = reports[0].to_json() if len(reports) == 1 else {**HEADER, "reports": [each.to_json() for each in reports]}
    lost = write_finally(output.json_path, data)
    if not output.quiet:
        for report in reports:
            print_syncs(report, stream_for_people(output.json_path), top=output.top)
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
