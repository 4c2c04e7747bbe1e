"""``gate counts`` on the command line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from bagel_perf.cli.options import (
    WORDS,
    Case,
    CountingDevice,
    Debug,
    Github,
    Json,
    Junit,
    Page,
    Quiet,
    QuietOps,
    Summary,
)
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.expected_counts import DEFAULT_FILE
from bagel_perf.schema.plans import DEVICES, one_of
from bagel_perf.schema.scripts import DEFAULT_SEED

HELP = "Files, or a program, whose host syncs are held."


def gate_counts(
    context: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar=WORDS, help=HELP, show_default="all that the file expects")
    ] = None,
    *,
    expect: Annotated[Path, typer.Option(metavar="FILE.toml", help="Expected counts.")] = DEFAULT_FILE,
    update: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Write the counts of these anew, and why they are what they are."),
    ] = None,
    case: Case = None,
    seed: Annotated[int, typer.Option(help="Given to the functions of a file.")] = DEFAULT_SEED,
    device: CountingDevice = "cpu",
    quiet_op: QuietOps = None,
    junit: Junit = None,
    summary: Summary = None,
    html: Page = None,
    github: Github = False,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Holds the host syncs of files, or of a program, to a file of expectations, in both directions."""
    from bagel_perf.commands import gate_counts as work
    from bagel_perf.commands.gate_output import GateOutput
    from bagel_perf.commands.syncs import Watching, parse_quiet_ops

    is_command = "--" in shlex.split(context.obj)
    if is_command and case is not None:
        raise UsageError("--case is about files, not about a program", remedy="drop it, or name a FILE.py")
    watching = Watching(
        device=one_of("device", device, DEVICES), quiet_ops=parse_quiet_ops(quiet_op or []), profile=False
    )
    asked = work.Asked(
        words=tuple(words or ()),
        is_command=is_command,
        case=case,
        seed=seed,
        expect=expect,
        update=update,
        watching=watching,
    )
    work.gate_counts(
        asked, GateOutput(json_path=json_path, junit=junit, summary=summary, html=html, github=github, quiet=quiet)
    )
