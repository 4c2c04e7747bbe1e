"""The errors that people meet, each with its exit code, in text without characters that hide or steer.

BagelPerfError
├── LatencyRegressed  1  slower than before by more than the limit
├── UsageError        2  wrong arguments, unreadable or missing input (also a ValueError)
├── OutputsDiffer     3  a variant does not give the picture it has to give
├── Inconclusive      4  too few pairs, or more noise than the limit
├── EnvironmentUnfit  5  this machine cannot do it, or two machines are unlike
├── RunFailed         6  out of memory, a worker died; what was measured is kept
└── CountersDrifted   7  exact numbers differ from the expected ones
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, ClassVar

REPLACEMENT = "\ufffd"
FORBIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn")
"""Controls, marks that turn the direction of text around, lone surrogates, and what is no character."""


def clean_text(text: str) -> str:
    """``text`` with a mark in place of each such character; line feeds stay."""
    if text.isascii() and text.isprintable():
        return text
    kept = (
        char if char == "\n" or unicodedata.category(char) not in FORBIDDEN_CATEGORIES else REPLACEMENT for char in text
    )
    return "".join(kept)


def one_line(text: str) -> str:
    """``text`` on one line and clean: foreign text may not begin a line of its own."""
    return clean_text(" ".join(text.split()))


INTERRUPTED = 130
"""Exit code of a program that Ctrl-C ended."""


class BagelPerfError(Exception):
    """One line ``WHAT (VALUE); ALLOWED; REMEDY``; parts that are not given are left out."""

    exit_code: ClassVar[int]

    def __init__(self, what: str, *, value: object = None, allowed: str = "", remedy: str = "") -> None:
        self.what = one_line(what)
        self.value = None if value is None else one_line(str(value))
        self.allowed = one_line(allowed)
        self.remedy = one_line(remedy)
        head = self.what if self.value is None else f"{self.what} ({self.value})"
        super().__init__("; ".join(part for part in (head, self.allowed, self.remedy) if part))


class LatencyRegressed(BagelPerfError):
    """A latency is above its limit, with its whole interval."""

    exit_code = 1


class UsageError(BagelPerfError, ValueError):
    """Wrong arguments, or an input that is missing or cannot be read."""

    exit_code = 2


class OutputsDiffer(BagelPerfError):
    """A variant gave another picture or tensor than it has to."""

    exit_code = 3


class Inconclusive(BagelPerfError):
    """The data allow no verdict."""

    exit_code = 4


class EnvironmentUnfit(BagelPerfError):
    """The machine lacks something, or two results come from unlike machines."""

    exit_code = 5


class RunFailed(BagelPerfError):
    """The run ended before its plan did."""

    exit_code = 6


class CountersDrifted(BagelPerfError):
    """An exact number differs from the expected one, in either direction."""

    exit_code = 7


def reworded(
    error: BagelPerfError,
    *,
    what: str | None = None,
    value: str | None = None,
    allowed: str | None = None,
    remedy: str | None = None,
) -> BagelPerfError:
    """The same error with other words where some are given, and with its notes."""
    told = type(error)(
        error.what if what is None else what,
        value=error.value if value is None else value,
        allowed=error.allowed if allowed is None else allowed,
        remedy=error.remedy if remedy is None else remedy,
    )
    for note in getattr(error, "__notes__", []):
        told.add_note(note)
    return told


_KINDS: dict[str, type[BagelPerfError]] = {kind.__name__: kind for kind in BagelPerfError.__subclasses__()}


def error_to_json(error: BagelPerfError) -> dict[str, Any]:
    """The error with its notes as a JSON object, from which ``error_from_json`` makes an equal one."""
    parts = {"what": error.what, "value": error.value, "allowed": error.allowed, "remedy": error.remedy}
    return {"type": type(error).__name__, **parts, "notes": getattr(error, "__notes__", [])}


def error_from_json(data: object) -> BagelPerfError:
    """The error that another process sent; anything unintelligible becomes a ``RunFailed`` that shows it."""
    kind = _KINDS.get(str(data.get("type"))) if isinstance(data, Mapping) else None
    if kind is None or not isinstance(data, Mapping):
        return RunFailed("the worker sent an error of unknown kind", value=data)
    parts = {key: str(data.get(key) or "") for key in ("what", "allowed", "remedy")}
    error = kind(parts["what"], value=data.get("value"), allowed=parts["allowed"], remedy=parts["remedy"])
    for note in data.get("notes") or []:
        error.add_note(str(note))
    return error


class ProgramEnded(Exception):
    """A program that was watched has ended, in whatever way; its exit code is ours."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code
