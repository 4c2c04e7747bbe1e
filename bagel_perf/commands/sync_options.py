"""What ``syncs`` is told: budgets and other options, what is to be watched, and how."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bagel_perf.commands.common import writable
from bagel_perf.pythons import require_torch
from bagel_perf.records.errors import EnvironmentUnfit, UsageError, one_line
from bagel_perf.records.following import OnWait
from bagel_perf.records.plans import Device
from bagel_perf.records.targets import is_target
from bagel_perf.rules.programs import is_python, python_parts, readable


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


def checked_subject(command: Sequence[str] | None, given: frozenset[str], line: str, *, profile: bool) -> Subject:
    """What a command line names; raises ``UsageError`` for an option that means nothing beside it."""
    subject = subject_of(command, has_dashes="--" in shlex.split(line))
    refuse_idle_options(given, subject, profile=profile)
    return subject


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


def checked_command(command: Sequence[str]) -> tuple[str, ...]:
    """The command as it is started: a bare ``python`` without torch gives way to the one that runs bagel-perf.

    Raises ``UsageError`` where there is no such program or script, ``EnvironmentUnfit`` for a Python without torch.
    """
    name = command[0]
    if is_python(command) and not os.path.dirname(name):
        name = _bare_python(name)
    if shutil.which(name) is None:
        is_script = name.endswith(".py") and Path(name).exists()
        what = "command is not executable" if Path(name).is_file() else "command does not exist"
        remedy = f"put python in front: syncs -- python {name}" if is_script else ""
        raise UsageError(what, value=name, allowed="a program on PATH, or a path", remedy=remedy)
    script = script_of(command)
    if script is not None and not Path(script).exists():
        raise UsageError("script does not exist", value=script)
    if is_python(command):
        require_torch(name)
    return (name, *command[1:])


def _bare_python(name: str) -> str:
    """The one on PATH, or where that is not there or has no torch, the one that runs bagel-perf."""
    path = shutil.which(name)
    if path is None or os.path.samefile(path, sys.executable):
        return sys.executable
    try:
        require_torch(path)
    except EnvironmentUnfit:
        return sys.executable
    return path


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


def subject_text(command: Sequence[str]) -> str:
    """What a report calls a command, on one line; of a script without the Python in front of it."""
    shown = command[1:] if script_of(command) == "".join(command[1:2]) else command
    return readable(one_line(" ".join(shown)))
