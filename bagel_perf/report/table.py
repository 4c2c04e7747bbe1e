"""A table as plain data, and the words that several tables share."""

from __future__ import annotations

from dataclasses import dataclass

from bagel_perf.schema.slots import Stage

STAGE_LABELS: dict[Stage, str] = {"ar": "AR", "dit": "DiT", "e2e": "e2e"}
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


def res_text(res: int | str) -> str:
    """A resolution as width x height."""
    return f"{res}x{res}" if isinstance(res, int) else res


def counted(number: int, noun: str) -> str:
    """``1 round``, ``2 rounds``, ``2 processes``."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{plural * (number != 1)}"


def ms_text(value: float | None) -> str:
    """Milliseconds, where they were measured."""
    return NONE if value is None else f"{value:.1f}"
