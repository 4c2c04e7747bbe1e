"""A table as plain data, and the words that several tables share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LABELS = {"ar": "AR", "dit": "DiT"}
"""Of stages whose names are abbreviations."""
NONE = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A header, with the unit; numbers stand to the right."""

    header: str
    numeric: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of finished strings, each as long as ``columns``."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


def stage_text(stage: str) -> str:
    """The name of a stage as tables show it."""
    return LABELS.get(stage, stage)


def counted(number: int, noun: str) -> str:
    """``1 round``, ``2 rounds``, ``2 processes``."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{plural * (number != 1)}"


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([*([", ".join(words[:-1])] if len(words) > 1 else []), *words[-1:]])


def ms_text(value: float | None) -> str:
    """Milliseconds, where they were measured."""
    return NONE if value is None else f"{value:.1f}"
