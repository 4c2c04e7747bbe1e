"""Folders and files of results: never overwritten, never half written; gzipped or not."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bagel_perf.records.codec import parse_json
from bagel_perf.records.errors import RunFailed, UsageError

GZIP_MAGIC = b"\x1f\x8b"
"""What a gzipped file begins with, whatever its name."""
PICTURES = ".pictures-"
"""What the names of temporary folders beside results begin with."""


def device_slug(device_name: str) -> str:
    """A short folder name for a device: ``NVIDIA H200`` gives ``h200``."""
    words = [word for word in re.findall(r"[a-z0-9]+", device_name.lower()) if word not in ("nvidia", "geforce", "gpu")]
    return "-".join(words[:2]) or "device"


def slug(text: str) -> str:
    """A name as part of a file's name: letters, digits and ``._+-`` stay, 60 at most."""
    return re.sub(r"[^\w.+-]", "_", text)[:60] or "_"


def make_out_dir(base: Path, device: str, commit: str, date: str) -> Path:
    """Makes ``base/<date>_<device>_<commit>``, with -2, -3... where that exists; returns its path."""
    name = f"{date}_{device}_{commit}"
    if base.is_symlink() and not base.exists():
        raise UsageError("folder of results is a broken link", value=base, remedy="remove it, or choose another --out")
    number = 1
    while True:
        path = base / (name if number == 1 else f"{name}-{number}")
        try:
            with writing(path):
                path.mkdir(parents=True)
            return path
        except FileExistsError:
            number += 1


def write_json_atomic(path: Path, data: dict[str, Any]) -> None:
    """Writes JSON so that a reader sees the former file or the whole new one.

    Raises ``RunFailed`` when there is no room on the disk, ``UsageError`` when the path cannot be written.
    """
    text = json.dumps(data, indent=1, allow_nan=False) + "\n"
    with writing(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the errors of writing to ``path`` into one-line ones; an existing path stays a ``FileExistsError``."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFailed("no room on the disk", value=path, remedy="free some, or choose another path") from problem
        reason = problem.strerror or str(problem)
        remedy = "choose another path"
        raise UsageError("path cannot be written", value=path, allowed=reason, remedy=remedy) from problem


def write_text(path: Path, text: str) -> None:
    """Writes a file as UTF-8; what stands in the way is one error."""
    with writing(path):
        path.write_text(text, encoding="utf-8")


def unpacked_json(path: Path) -> Any:
    """Reads the value in a file. Raises OSError, ValueError where it is no JSON, ``UsageError`` where packing broke."""
    content = path.read_bytes()
    return parse_json(_unpacked(content) if content.startswith(GZIP_MAGIC) else content)


def _unpacked(content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except EOFError as problem:
        raise UsageError("gzip file is cut off", remedy="copy it again") from problem
    except (OSError, zlib.error) as problem:
        raise UsageError("gzip file is damaged", allowed=str(problem), remedy="copy it again") from problem
