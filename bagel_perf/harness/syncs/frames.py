"""Finds the frames that a report names: the innermost outside torch, and the innermost of the user's own."""

from __future__ import annotations

import os
from bisect import bisect_right
from pathlib import Path
from types import CodeType, FrameType

import torch

from bagel_perf.harness.syncs.ownership import ELSEWHERE, INSTALLED, OWN, FileNames, Ownership

_PACKAGE = Path(__file__).parents[2]
INNER_FOLDERS = (
    f"{Path(torch.__file__).parent}{os.sep}",
    *(f"{_PACKAGE / name}{os.sep}" for name in ("harness", "subjects")),
)
_BOTTOMS = tuple(str(_PACKAGE / "workload" / name) for name in ("target.py", "worker.py"))
"""What calls the stages of a target, and BAGEL; below it there is nobody's program."""


class Folders:
    """Sorts frames by the folder of their code; remembers code objects, so keep it no longer than it is of use."""

    def __init__(self) -> None:
        # By the identity of code objects, which are kept alive so that it stays theirs.
        self._inner: dict[int, tuple[CodeType, bool]] = {}
        self._owners: dict[int, tuple[CodeType, int]] = {}
        self._ownership = Ownership()

    def user_frame(self, frame: FrameType | None) -> FrameType | None:
        """The innermost frame outside torch, this package's harness, and what calls a user's stages."""
        while frame is not None:
            code = frame.f_code
            found = self._inner.get(id(code))
            if found is None:
                name = code.co_filename
                found = self._inner[id(code)] = (code, name.startswith(INNER_FOLDERS) or name.startswith("<frozen "))
            if not found[1]:
                return None if code.co_filename in _BOTTOMS else frame
            frame = frame.f_back
        return None

    def caller_of(self, frame: FrameType | None) -> FrameType | None:
        """The innermost frame of the program; else of what it imports from elsewhere; see ``ownership``."""
        elsewhere = None
        while frame is not None:
            owner = self._owner_of(frame.f_code)
            if owner == OWN:
                return frame
            if owner == ELSEWHERE and elsewhere is None:
                elsewhere = frame
            if owner == INSTALLED and frame.f_code.co_filename in _BOTTOMS:
                break
            frame = frame.f_back
        return elsewhere

    def is_installed(self, code: CodeType) -> bool:
        """Whether code is an installed package's."""
        return self._owner_of(code) == INSTALLED

    def _owner_of(self, code: CodeType) -> int:
        found = self._owners.get(id(code))
        if found is None:
            found = self._owners[id(code)] = (code, self._ownership.of(code.co_filename))
        return found[1]


class Lines:
    """Knows the lines of frames; Python's own ``f_lineno`` reads all of a function up to there each time."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[CodeType, list[int], list[int]]] = {}

    def of(self, frame: FrameType) -> int:
        """The line that a frame is at."""
        code = frame.f_code
        known = self._known.get(id(code))
        if known is None:
            lines = list(code.co_lines())
            known = (code, [start for start, _, _ in lines], [line or 0 for _, _, line in lines])
            self._known[id(code)] = known
        _, starts, numbers = known
        return numbers[max(bisect_right(starts, frame.f_lasti) - 1, 0)]


def line_of(frame: FrameType) -> str:
    """FILE:LINE that a frame is at."""
    return f"{readable_path(frame.f_code.co_filename)}:{frame.f_lineno}"


def readable_path(path: str) -> str:
    """``path`` as ``FileNames`` has it: a report names no folder of the machine that made it."""
    return FileNames().of(path)
