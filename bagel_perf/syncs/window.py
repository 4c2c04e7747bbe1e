"""Tells waits of the steady state from those of warm-up, and from those of compiling, autotuning and capturing.

Waits outside of the steady state are listed with their phase and held to no budget. While a watch is paused nothing is
counted at all.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import torch

from bagel_perf.records.ledger import Ledger
from bagel_perf.records.sites import Phase
from bagel_perf.syncs.regions import Stack

EVERY = ""
"""In ``skip_first``, every region."""
_TORCH = f"{Path(torch.__file__).parent}{os.sep}"
_AUTOTUNING = (
    f"{os.sep}triton{os.sep}runtime{os.sep}autotuner.py",
    f"{os.sep}triton{os.sep}testing.py",
    f"{os.sep}_inductor{os.sep}runtime{os.sep}triton_heuristics.py",
    f"{os.sep}_inductor{os.sep}runtime{os.sep}benchmarking.py",
    f"{os.sep}_inductor{os.sep}select_algorithm.py",
    f"{os.sep}_inductor{os.sep}autotune_process.py",
)
_COMPILING = (
    f"{os.sep}_dynamo{os.sep}convert_frame.py",
    f"{os.sep}_inductor{os.sep}compile_fx.py",
    f"{os.sep}_inductor{os.sep}codecache.py",
    f"{os.sep}triton{os.sep}compiler{os.sep}compiler.py",
)
_CAPTURING = (f"{_TORCH}cuda{os.sep}graphs.py",)
_PHASES: tuple[tuple[Phase, tuple[str, ...]], ...] = (
    ("autotuning", _AUTOTUNING),
    ("compilation", _COMPILING),
    ("capture", _CAPTURING),
)
_LOADED = ("torch._dynamo.convert_frame", "torch._inductor", "triton")
"""Without these nobody compiles or tunes."""


class Phases:
    """Finds what torch is doing for itself by the functions that are under way; remembers code objects."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[CodeType, Phase]] = {}

    def of(self, frame: FrameType | None) -> Phase:
        """The phase that a wait below ``frame`` is of; "" for the program's own work."""
        is_cheap = not any(name in sys.modules for name in _LOADED)
        depth = 0
        while frame is not None:
            found = self._phase(frame.f_code)
            if found:
                return found
            depth += 1
            if is_cheap and depth == _NEAR:  # a graph's own waits are made right below it
                return ""
            frame = frame.f_back
        return ""

    def _phase(self, code: CodeType) -> Phase:
        known = self._known.get(id(code))
        if known is None:
            found: Phase = next((phase for phase, files in _PHASES if code.co_filename.endswith(files)), "")
            known = self._known[id(code)] = (code, found)
        return known[1]


_NEAR = 8

_warming: Stack[Window] = Stack("window")


class Window:
    """When counting begins; a sink of ``regions.recording``, which tells it of every region that opens.

    It begins once ``after`` has been entered and left for the first time in this process, or in the one that it is a
    fork of, at once for ""; the entries of a region before the number in ``skip_first`` are warm-up, too. ``ledger`` is
    told when it begins, and says whether the watch is paused.
    """

    def __init__(self, ledger: Ledger, after: str = "", skip_first: Mapping[str, int] | None = None) -> None:
        self._ledger = ledger
        self._begun = ledger.slot({"after": after}) if after else 0
        self._after = after
        self._skip_first = dict(skip_first or {})
        self._is_open = not after
        self._entries: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def open(self, name: str) -> Iterator[None]:
        """One entry of a region."""
        with self._lock:
            self._entries[name] += 1
            is_skipped = self._entries[name] <= max(self._skip_first.get(name, 0), self._skip_first.get(EVERY, 0))
        held = _warming.push(self) if is_skipped else None
        try:
            yield
        finally:
            if held is not None:
                _warming.let_go(held)
            if name == self._after and not self._is_open:
                self._begin()

    def inherit(self, other: Window) -> None:
        """Goes on, in a fork, where the window of the other process was."""
        self._entries = Counter(other._entries)
        if other._is_open and not self._is_open:
            self._begin()

    def _begin(self) -> None:
        self._is_open = True
        self._ledger.set(self._begun, 1)

    def is_paused(self) -> bool:
        """Whether nothing is counted just now."""
        return self._ledger.is_paused

    def is_steady(self) -> bool:
        """Whether a wait of this thread or task belongs to the steady state."""
        return self._is_open and self not in _warming.values()

    @property
    def not_begun(self) -> str:
        """The region to begin after, where it was never left."""
        return "" if self._is_open else self._after


window: Window | None = None
"""That of this process, None where all is counted."""


def set_window(new: Window | None) -> None:
    """Has this process count in a window from now on."""
    global window
    window = new


def is_paused() -> bool:
    """Whether nothing is counted just now."""
    return window is not None and window.is_paused()


def is_warming_up() -> bool:
    """Whether a wait that happens now is of the warm-up."""
    return window is not None and not window.is_steady()
