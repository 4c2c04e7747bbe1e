"""Which traces ``trace`` is to read: files, and folders of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bagel_perf.schema.errors import UsageError

ENDINGS = ".json and .sqlite, packed or not"
MAX_NAMED = 5
_IS_TRACE = re.compile(r"(?i).+\.(json|sqlite3?|db)(\.(gz|bz2|xz|zst|zip))?")


def trace_files(paths: Sequence[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """The files, each folder replaced by the traces in it in the order of their numbers, and notes on what was left.

    Raises ``UsageError`` for a folder without traces, one that cannot be read, and a file that is named twice.
    """
    files: list[Path] = []
    notes: list[str] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found, note = _of_folder(path)
        files += found
        notes += note
    seen: dict[Path, Path] = {}
    for file in files:
        if (real := file.resolve()) in seen:
            raise UsageError("trace is named twice", value=file, remedy="name it once")
        seen[real] = file
    return files, tuple(notes)


def _of_folder(folder: Path) -> tuple[list[Path], list[str]]:
    try:
        entries = sorted(folder.iterdir(), key=lambda each: natural(each.name))
    except OSError as problem:
        raise UsageError("folder cannot be read", value=folder, allowed=problem.strerror or str(problem)) from problem
    found = [each for each in entries if _IS_TRACE.fullmatch(each.name) and each.is_file()]
    if not found:
        allowed = f"files that end in {ENDINGS}"
        raise UsageError("folder has no trace", value=folder, allowed=allowed, remedy="name a file, or another folder")
    others = [each.name for each in entries if each not in found]
    if not others:
        return found, []
    more = f" and {len(others) - MAX_NAMED} more" * (len(others) > MAX_NAMED)
    return found, [f"left aside in the folder: {', '.join(others[:MAX_NAMED])}{more}"]


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """A key by which ``rank2`` comes before ``rank10``."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part)
