"""What the commands share: where JSON and text for people go, and paths that have to exist."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.store import write_json_atomic, writing


def given_options(context: Any) -> frozenset[str]:
    """Options that stand on the command line, as ``--check-price``; ``context`` is typer's."""
    given = (name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE")
    names = {parameter.name: parameter.opts for parameter in context.command.params}
    return frozenset(option for name in given for option in names.get(name, ()) if option.startswith("--"))


def existing(path: Path, what: str, *, folder: bool) -> Path:
    """``path`` if it is there; ``UsageError`` names what is missing."""
    if not (path.is_dir() if folder else path.is_file()):
        raise UsageError(f"{what} does not exist", value=path)
    return path


def stream_for_people(json_path: str | None) -> TextIO:
    """stdout, or stderr where stdout carries the JSON."""
    return sys.stderr if json_path == "-" else sys.stdout


def write_json(json_path: str | None, data: dict[str, Any]) -> None:
    """Writes JSON where ``--json`` says: nowhere, stdout, or a file, which is replaced in one step."""
    if json_path == "-":
        print(json.dumps(data, indent=1))
    elif json_path is not None:
        path = Path(json_path)
        if path.is_symlink() or (path.exists() and not path.is_file()):  # a device or pipe is written, never replaced
            with writing(path):
                path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        else:
            write_json_atomic(path, data)


def check_json_path(json_path: str | None) -> None:
    """Raises ``UsageError`` before anything runs if the JSON could not be written in the end."""
    if json_path is not None and json_path != "-":
        writable(Path(json_path), "--json", empty=not json_path)


def writable(path: Path, option: str, *, empty: bool = False) -> Path:
    """``path`` if a file can be written there; ``UsageError`` names the option."""
    if empty or path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        what = {"--json": "JSON", "--keep-trace": "trace"}.get(option, option) + " cannot be written there"
        allowed = "a file in an existing folder that may be written" + (", or - for stdout" * (option == "--json"))
        raise UsageError(what, value="" if empty else path, allowed=allowed, remedy=f"choose another {option}")
    return path
