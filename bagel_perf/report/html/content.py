"""What a page consists of, as plain data that HTML and Markdown render alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bagel_perf.report.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A paragraph; a ``lead`` is the first thing to read, a ``note`` stands back."""

    kind: ClassVar[str] = "text"
    text: str
    style: str = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading inside a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bullets:
    """Sentences, one below the other."""

    kind: ClassVar[str] = "bullets"
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Lines to copy."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link to click, or with ``download`` a file that the page carries, under that name; ``href`` is ours alone."""

    text: str
    href: str
    note: str
    download: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Links, one below the other."""

    kind: ClassVar[str] = "links"
    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableBlock:
    """A table; the cells of ``code_columns`` are source text."""

    kind: ClassVar[str] = "table"
    table: Table
    code_columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A drawing as SVG that is safe to stand in a page; its numbers stand in a table as well."""

    kind: ClassVar[str] = "plot"
    svg: str
    label: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """A picture as a data URI."""

    uri: str
    width: int
    height: int
    alt: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Photos:
    """Pictures side by side."""

    kind: ClassVar[str] = "photos"
    photos: tuple[Photo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Blocks that are closed until somebody opens them."""

    kind: ClassVar[str] = "fold"
    summary: str
    blocks: tuple[Text | TableBlock, ...]


Block = Text | Heading | Bullets | Code | Links | TableBlock | Plot | Photos | Fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page with an anchor of its own."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All of it; ``data_json`` are the numbers of the tables for programs, ``beside`` a file that has them as text."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    data_json: str
    beside: str = ""


def tables(*found: Table) -> tuple[TableBlock, ...]:
    """Each table as a block."""
    return tuple(TableBlock(table=table) for table in found)
