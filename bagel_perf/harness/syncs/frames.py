"""Finds the lines of a program that a report names: frames outside torch, and their source texts."""

from __future__ import annotations

import dis
import linecache
import os
import sys
import sysconfig
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType

import torch

_HARNESS = str(Path(__file__).parents[1])
INNER_FOLDERS = (f"{Path(torch.__file__).parent}{os.sep}", f"{_HARNESS}{os.sep}")
_PACKAGES = tuple(sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib"))
_LIBRARIES = tuple(f"{folder}{os.sep}" for folder in _PACKAGES)
_MAX_EXPRESSION = 80


class Folders:
    """Sorts frames by the folder of their code; remembers code objects, so keep it no longer than it is of use."""

    def __init__(self) -> None:
        self._inner: dict[int, tuple[CodeType, bool]] = {}
        self._library: dict[int, tuple[CodeType, bool]] = {}

    def user_frame(self, frame: FrameType | None) -> FrameType | None:
        """The innermost frame outside torch and this package's harness."""
        return _innermost_outside(frame, self._inner, INNER_FOLDERS)

    def caller_of(self, frame: FrameType | None) -> FrameType | None:
        """The innermost frame outside installed packages."""
        return _innermost_outside(frame, self._library, _LIBRARIES)


def _innermost_outside(
    frame: FrameType | None, known: dict[int, tuple[CodeType, bool]], folders: tuple[str, ...]
) -> FrameType | None:
    """The first frame from ``frame`` outwards whose code lies in none of the folders.

    ``known`` remembers what was found by the identity of code objects, and keeps these alive so that it stays theirs.
    """
    while frame is not None:
        code = frame.f_code
        found = known.get(id(code))
        if found is None:
            name = code.co_filename
            found = known[id(code)] = (code, name.startswith(folders) or name.startswith("<frozen "))
        if not found[1]:
            return frame
        frame = frame.f_back
    return None


def expressions_at(code: CodeType | None, instructions: Iterable[int], most: int = 3) -> tuple[str, ...]:
    """Source texts of some instructions of a code object, each on one line; none where the source is not there."""
    if code is None:
        return ()
    texts: dict[str, None] = {}
    positions = list(code.co_positions())
    for offset in instructions:
        name = dis.opname[code.co_code[offset]]
        text = _source_text(code.co_filename, positions[offset // 2], one_line=name.startswith("POP_JUMP"))
        if text:
            texts[f"{text} = ..." if name == "STORE_SUBSCR" else text] = None
    return tuple(islice(texts, most))


def _source_text(file: str, position: tuple[int | None, ...], *, one_line: bool) -> str:
    """The text at a position of byte code; a jump's covers its whole statement, of which one line is enough."""
    first, last, start, stop = position
    if first is None or last is None or start is None or stop is None:
        return ""
    if one_line and last > first:
        return linecache.getline(file, first).partition("#")[0].strip()
    lines = [linecache.getline(file, number).encode() for number in range(first, last + 1)]  # columns count bytes
    if not all(lines):
        return ""
    lines[-1] = lines[-1][:stop]
    lines[0] = lines[0][start:]
    text = " ".join(b" ".join(lines).decode(errors="replace").split())
    return text if len(text) <= _MAX_EXPRESSION else f"{text[: _MAX_EXPRESSION - 3]}..."


def line_of(frame: FrameType) -> str:
    """FILE:LINE that a frame is at."""
    return f"{readable_path(frame.f_code.co_filename)}:{frame.f_lineno}"


def _current_folder() -> tuple[str, ...]:
    """The current folder, unless the program has removed it."""
    try:
        return (os.getcwd(),)
    except FileNotFoundError:
        return ()


def readable_path(path: str) -> str:
    """``path`` as a module's where it is an installed package's, else from the current folder, else from ``sys.path``.

    So a report names no folder of the machine that made it.
    """
    if not os.path.isabs(path):
        return path
    paths = sorted(filter(os.path.isabs, sys.path), key=len, reverse=True)
    for folder in (*_PACKAGES, *_current_folder(), *paths):
        if path.startswith(folder.rstrip(os.sep) + os.sep):
            return os.path.relpath(path, folder)
    return os.path.basename(path)
