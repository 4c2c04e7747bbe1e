"""``syncs``: watches a variant, a program or a target, and prints what waits and what to write instead.

A program runs on this terminal and does not outlive this process. Signals that another process sends are passed on to
it at once; those of the terminal have reached it already.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from msgspec.structs import replace

from bagel_perf import launch
from bagel_perf.commands.common import check_json_path, stream_for_people, writable, write_json
from bagel_perf.commands.following import environment, following, tell_root, watch_folder
from bagel_perf.launch import dying_with_parent
from bagel_perf.pythons import require_torch
from bagel_perf.records.errors import BagelPerfError, EnvironmentUnfit, RunFailed, UsageError
from bagel_perf.records.events import Event, SyncsEvent
from bagel_perf.records.following import PAUSED, OnWait, WatchOrder
from bagel_perf.records.plans import Device, Plan
from bagel_perf.records.syncs import HEADER, SyncReport
from bagel_perf.records.targets import TargetRun, is_target
from bagel_perf.report.capture_tables import print_capture
from bagel_perf.report.progress import ProgressView
from bagel_perf.report.sync_tables import print_syncs
from bagel_perf.rules.programs import is_python, python_parts, readable
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
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    try:
        prepare = tell_root(Path(order.folder), _preparation(before))
        process = subprocess.Popen(arguments, stdout=stdout, env=environment(order), preexec_fn=prepare)
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


TARGET_MODULE = "bagel_perf.watched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where the report goes: ``top`` rows for people, alike processes ``apart`` or summed; JSON for programs."""

    top: int
    json_path: str | None
    quiet: bool
    apart: bool = False


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


def trace_path_of(given: Path | None) -> str | None:
    """The file for a trace, which can be written; None where none is asked for."""
    return None if given is None else str(writable(given, "--keep-trace").absolute())


def parse_skips(texts: Sequence[str]) -> dict[str, int]:
    """Entries of warm-up by region of ``N`` (every region) and ``REGION=N``; ``UsageError`` for anything else."""
    skips: dict[str, int] = {}
    for text in texts:
        region, _, number = text.rpartition("=")
        if not number.isdecimal() or ("=" in text and not region):
            raise UsageError("--skip-first is not understood", value=text, allowed="N or REGION=N, as 3 or step=3")
        if region in skips:
            raise UsageError("--skip-first is given twice", value=region or "every region", remedy="give it once")
        skips[region] = int(number)
    return skips


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
    for option in ("--after", "--skip-first", "--raise", "--capture", "--paused", "--apart"):
        if subject == "variant" and option in given:
            remedy = "name one: syncs FILE.py, syncs -- COMMAND"
            raise UsageError(f"{option} is about a program or a target", remedy=remedy)
    for option, is_idle, remedy in (
        ("--pairs", "--check-saving" not in given, "add --check-saving"),
        ("--check-saving", not profile, "leave --no-profile out"),
        ("--keep-trace", not profile, "leave --no-profile out"),
    ):
        if option in given and is_idle:
            raise UsageError(f"{option} means nothing here", remedy=f"{remedy}, or drop it")


Texts = tuple[Sequence[str] | None, Sequence[str] | None, Sequence[str] | None]


def watching_of(device: Device, texts: Texts, keep_trace: Path | None, *, raises: bool, **asked: Any) -> Watching:
    """How to watch, of what was typed: texts of ``--budget``, ``--quiet-op`` and ``--skip-first``, and the rest."""
    budgets, quiet_ops, skips = texts
    return Watching(
        device=device,
        budgets=parse_budgets(budgets or []),
        quiet_ops=parse_quiet_ops(quiet_ops or []),
        skip_first=parse_skips(skips or []),
        on_wait="raise" if raises else "count",
        trace_path=trace_path_of(keep_trace),
        **asked,
    )


def of_plan(watching: Watching, **more: Any) -> dict[str, Any]:
    """What a plan says of watching."""
    return {
        **more,
        "order_seed": random.SystemRandom().randrange(2**31),
        "device": watching.device,
        "budgets": watching.budgets,
        "profile": watching.profile,
        "trace_path": watching.trace_path,
    }


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


def checked_command(command: Sequence[str]) -> tuple[str, ...]:
    """The command as it is started: a bare ``python`` is the one that runs bagel-perf.

    Raises ``UsageError`` where there is no such program or script, ``EnvironmentUnfit`` for a Python without torch.
    """
    name = command[0]
    path = shutil.which(name)
    if is_python(command) and not os.path.dirname(name):
        path = name = sys.executable
    if path is None:
        remedy = f"put python in front: syncs -- python {name}" if name.endswith(".py") and Path(name).exists() else ""
        raise UsageError("command does not exist", value=name, allowed="a program on PATH, or a path", remedy=remedy)
    script = script_of(command)
    if script is not None and not Path(script).exists():
        raise UsageError("script does not exist", value=script)
    if is_python(command):
        require_torch(name)
    return (name, *command[1:])


def script_of(command: Sequence[str]) -> str | None:
    """The script that ``python [flags] script.py ...`` names; None for a module, a text, or another program."""
    rest = python_parts(command)[1] if is_python(command) else ()
    return rest[0] if rest and not rest[0].startswith("-") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """How a program or a target is watched; ``trace_path`` is where the profile's trace is kept.

    The others are as in an order.

    ``is_paused`` says that counting waits for ``--attach PID start``.
    """

    device: Device = "auto"
    budgets: dict[str, int] = field(default_factory=dict)
    quiet_ops: dict[str, str] = field(default_factory=dict)
    profile: bool = True
    trace_path: str | None = None
    on_wait: OnWait = "count"
    after: str = ""
    skip_first: dict[str, int] = field(default_factory=dict)
    capture: str = ""
    is_paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What was seen of a process, its exit code, and the error that a target ended in."""

    report: SyncReport
    exit_code: int
    error: BagelPerfError | None = None


def watch_program(command: Sequence[str], watching: Watching, output: Output) -> Ended:
    """Runs the command and watches it, with all that it starts."""
    start = checked_command(command)
    return watch_process(start, watching, output, subject=readable(shlex.join(command[is_python(command) :])))


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
        report, error = found.gathered(subject, tuple(start))
    return Ended(report=as_it_ended(report, ended), exit_code=code_of(ended), error=error)


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
