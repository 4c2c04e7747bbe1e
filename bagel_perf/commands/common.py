"""What the commands share: where JSON and text for people go, and paths that have to exist."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.store import write_json_atomic, writing


def without_outputs(arguments: Sequence[str]) -> list[str]:
    """The arguments that a repetition needs: where results go is nobody else's path."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        name = argument.split("=", 1)[0]
        if not skip and name not in ("--out", "--json"):
            kept.append(argument)
        skip = not skip and argument in ("--out", "--json")
    return kept


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
    if json_path is None or json_path == "-":
        return
    path = Path(json_path)
    if not json_path or path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        allowed = "a file in an existing folder that may be written, or - for stdout"
        raise UsageError(
            "JSON cannot be written there", value=json_path, allowed=allowed, remedy="choose another --json"
        )
