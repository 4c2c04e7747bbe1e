"""``syncs``: watches a variant, or somebody's program, and prints what waits and what to write instead."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bagel_perf import launch
from bagel_perf.commands.common import check_json_path, stream_for_people, write_json
from bagel_perf.report.progress import ProgressView
from bagel_perf.report.sync_tables import print_syncs
from bagel_perf.schema.errors import BagelPerfError, Inconclusive, RunFailed, UsageError, error_from_json
from bagel_perf.schema.events import Event, SyncsEvent
from bagel_perf.schema.plans import Device, Plan
from bagel_perf.schema.scripts import ScriptOrder
from bagel_perf.schema.syncs import SyncReport

SCRIPT_MODULE = "bagel_perf.workload.script"
GRACE_S = 2.0
"""For a program to end after Ctrl-C, before it is asked again."""
FINISH_S = 120.0
"""For it to end then, and for the profile of a long run to be read."""
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


OF_PROGRAMS = "quiet-op"
OF_VARIANTS = "variant res task image prompt steps seed preset weights attention check-price pairs"


def refuse_idle_options(given: frozenset[str], *, is_program: bool, profile: bool) -> None:
    """Raises ``UsageError`` for an option that would mean nothing beside the others."""
    of_variants = [name for name in OF_VARIANTS.split() if f"--{name}" in given]
    if is_program and of_variants:
        raise UsageError(
            f"--{of_variants[0]} is about BAGEL's variants, not about a program",
            remedy="drop it, or put it after -- if it is the program's own",
        )
    if not is_program and f"--{OF_PROGRAMS}" in given:
        raise UsageError(f"--{OF_PROGRAMS} is about a program", remedy="drop it: all that variants call is judged")
    for option, is_idle, remedy in (
        ("--pairs", "--check-price" not in given, "add --check-price"),
        ("--check-price", not profile, "leave --no-profile out"),
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
    _deliver(reports[0], output)


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


def watch_program(
    command: Sequence[str],
    device: Device,
    budgets: dict[str, int],
    output: Output,
    *,
    quiet_ops: dict[str, str],
    profile: bool,
    trace_path: str | None,
) -> int:
    """Runs the command and watches it; gives its own exit code, or raises where a budget was not kept."""
    check_json_path(output.json_path)
    program = parse_command(command)
    with tempfile.TemporaryDirectory(prefix="bagel_perf_") as folder:
        report_path = Path(folder, "report.json")
        order = ScriptOrder(
            report_path=str(report_path),
            subject=" ".join(program.target),
            is_module=program.is_module,
            device=device,
            profile=profile,
            trace_path=trace_path,
            budgets=budgets,
            quiet_ops=quiet_ops,
        )
        code = _run(program, order, output)
        report = _read_report(report_path, code)
    _deliver(report, output)
    return code


def _run(program: Program, order: ScriptOrder, output: Output) -> int:
    """Runs the program on this terminal, its stdout on stderr where the JSON has stdout for itself."""
    arguments = [program.interpreter, *program.flags, "-m", SCRIPT_MODULE, json.dumps(order.to_json())]
    stdout = sys.stderr if output.json_path == "-" else None
    try:
        process = subprocess.Popen([*arguments, *program.target], stdout=stdout)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise UsageError("interpreter cannot be started", value=program.interpreter, allowed=reason) from problem
    try:
        return process.wait()
    except KeyboardInterrupt:
        return _end(process)


def _end(process: subprocess.Popen[bytes]) -> int:
    """Lets the program end and its report be written; a second Ctrl-C ends both at once.

    Ctrl-C has reached the program from the terminal, a signal to this process alone has not.
    """
    with contextlib.suppress(KeyboardInterrupt):
        for number, patience_s in ((None, GRACE_S), (signal.SIGINT, FINISH_S)):
            if number is not None:
                process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(patience_s)
    process.kill()
    return process.wait()


def _read_report(path: Path, code: int) -> SyncReport:
    if not path.exists():
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise RunFailed(
            "the program ended without a report",
            value=cause,
            remedy="it may have been killed, called os._exit, or use a Python without bagel-perf",
        )
    outcome = json.loads(path.read_text(encoding="utf-8"))
    if "error" in outcome:
        raise error_from_json(outcome["error"])
    return SyncReport.from_json(outcome["report"])


def _deliver(report: SyncReport, output: Output) -> None:
    """Prints and writes the report; raises for a budget that was not kept, or cannot be judged."""
    if not output.quiet:
        print_syncs(report, stream_for_people(output.json_path), top=output.top)
    write_json(output.json_path, report.to_json())
    error = report.budget_error() or _doubt(report)
    if error is not None:
        raise error


def _doubt(report: SyncReport) -> BagelPerfError | None:
    """A budget is not kept where some operators may wait and nobody knows."""
    operators = dict.fromkeys(name for check in report.budgets for name in report.unjudged_in(check.region))
    if not operators:
        return None
    names = ", ".join(operators)
    remedy = "run it on a GPU, leave these operators out, or answer for them: --quiet-op NAME=REASON"
    return Inconclusive("the simulated device cannot judge operators, so budgets are open", value=names, remedy=remedy)
