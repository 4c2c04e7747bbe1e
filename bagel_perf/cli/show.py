"""``report`` and ``show`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bagel_perf.cli.options import (
    Debug,
    Json,
    Quiet,
)


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Results, what syncs, trace and gate gave as --json, traces.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of report.html and summary.md.")],
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Renders results, sync reports, gates and traces as one self-contained page; several results are a history."""
    from bagel_perf.commands.report import run_report

    run_report(results, out, json_path, quiet=quiet)


def show(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="File or folder, also of a run that was killed.")],
    *,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Prints a result's tables again."""
    from bagel_perf.commands.report import show_result

    show_result(result, json_path, quiet=quiet)
