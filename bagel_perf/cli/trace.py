"""``trace`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bagel_perf.cli.options import (
    Debug,
    Json,
    Quiet,
)


def trace(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Kineto JSON or Nsight Systems sqlite, packed or not; - is stdin. Several, or a folder: a rank each.",
        ),
    ],
    *,
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A trace from before, or a folder of ranks: show what changed."),
    ] = None,
    top: Annotated[int, typer.Option(help="Rows of each table.")] = 10,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page of it.")] = None,
    json_path: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Finds in a recorded trace where the CPU waited for the GPU and why the GPU was idle."""
    from bagel_perf.commands.trace import run_trace

    run_trace(files, against or [], top=top, html=html, json_path=json_path, quiet=quiet)
