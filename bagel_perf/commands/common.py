"""What the commands share: where JSON and text for people go, and paths that have to exist or to differ."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from bagel_perf.commands.streams import check_stdout
from bagel_perf.report.inert import json_line
from bagel_perf.schema.blocks import FIRST_LOOK, ROUNDS_PER_PROCESS
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.results import result_file
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


def parse_pairs(pairs: str | None, resolve: float | None, default_pct: float) -> tuple[int | None, float | None]:
    """Number of rounds to begin with, and what as many more as it takes are to resolve."""
    if pairs == "auto":
        return FIRST_LOOK * ROUNDS_PER_PROCESS, default_pct if resolve is None else resolve
    if resolve is not None:
        raise UsageError("--resolve says when --pairs auto stops", value=resolve, remedy="add --pairs auto")
    if pairs is None:
        return None, None
    if not pairs.removeprefix("-").isdecimal():
        raise UsageError("number of pairs is not understood", value=pairs, allowed="a number, or auto")
    return int(pairs), None


def listed(texts: Iterable[str]) -> list[str]:
    """The members of a list that was given with commas, repeated, or both."""
    parts = [part.strip() for text in texts for part in text.split(",")]
    if not all(parts):
        raise UsageError("a list has an empty member", value=",".join(texts), allowed="one comma between two names")
    return parts


def only_one(resolutions: list[str]) -> str:
    """The resolution that was given; ``UsageError`` for more than one."""
    if len(resolutions) > 1:
        given = ", ".join(resolutions)
        raise UsageError("syncs watches one resolution", value=given, remedy="run it once for each --res")
    return resolutions[0]


def stream_for_people(json_path: str | None) -> TextIO:
    """stdout, or stderr where stdout carries the JSON."""
    return sys.stderr if json_path == "-" else sys.stdout


def write_json(json_path: str | None, data: dict[str, Any]) -> None:
    """Writes JSON where ``--json`` says: nowhere, stdout, or a file, which is replaced in one step."""
    if json_path == "-":
        print(json_line(json.dumps(data, indent=1)), flush=True)
        check_stdout()
    elif json_path is not None:
        path = Path(json_path)
        if path.is_symlink() or (path.exists() and not path.is_file()):  # a device or pipe is written, never replaced
            with writing(path):
                path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        else:
            write_json_atomic(path, data)


def check_json_path(json_path: str | None) -> None:
    """Raises ``UsageError`` before anything runs if the JSON could not be written in the end."""
    if json_path == "-":
        check_stdout()
    elif json_path is not None:
        writable(Path(json_path), "--json", empty=not json_path)


def writable(path: Path, option: str, *, empty: bool = False) -> Path:
    """``path`` if a file can be written there; ``UsageError`` names the option."""
    what = {"--json": "JSON", "--keep-trace": "trace"}.get(option, option) + " cannot be written there"
    remedy = f"choose another {option}"
    if not empty and (problem := _impossible(path)):
        raise UsageError(what, value=path, allowed=problem, remedy=remedy)
    if empty or path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        allowed = "a file in an existing folder that may be written" + (", or - for stdout" * (option == "--json"))
        raise UsageError(what, value="" if empty else path, allowed=allowed, remedy=remedy)
    return path


def _impossible(path: Path) -> str:
    """Why no file can have this name: it is too long, or its links go round."""
    try:
        os.stat(path)
    except OSError as problem:
        if problem.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return problem.strerror or str(problem)
    return ""


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path] = ()) -> None:
    """Raises ``UsageError`` where an output, by its option, would replace an input or another output.

    An input that is a folder stands for its result. Links are followed; a device or pipe may be written twice.
    """
    read = {_identity(_input_file(path)) for path in inputs}
    options: dict[object, str] = {}
    for option, path in outputs.items():
        if path is None or (path.exists() and not path.is_file()):
            continue
        found = _identity(path)
        if found in read:
            remedy = "choose another path"
            raise UsageError("output would replace what is read", value=f"{option} {path}", remedy=remedy)
        if found in options:
            value, remedy = f"{options[found]} and {option} {path}", "choose another path for one of them"
            raise UsageError("two outputs go to one file", value=value, remedy=remedy)
        options[found] = option


def json_file(json_path: str | None) -> Path | None:
    """The file that ``--json`` names, None for none and for stdout."""
    return None if json_path in (None, "-") else Path(json_path or "")


def _input_file(path: Path) -> Path:
    try:
        return result_file(path)
    except OSError:  # its reader says why
        return path


def _identity(path: Path) -> object:
    """Equal for all names of one file."""
    try:
        found = path.stat()
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino
