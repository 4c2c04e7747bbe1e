"""What a page consists of, as plain data that HTML and Markdown render alike.

How much of a result it shows is bounded, so that it opens at once whatever was measured: the rest is counted, not
shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

from bagel_perf.report.table import Table, counted


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
    """A table; the cells of ``code_columns`` are source text, and ``row_ids`` the anchors of rows, "" for none."""

    kind: ClassVar[str] = "table"
    table: Table
    code_columns: tuple[str, ...] = ()
    row_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A piece of a sentence; ``colour`` is a property of ``colours``, "" for that of the text."""

    text: str
    colour: str = ""


Tone = Literal["plain", "good", "bad", "doubt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """A few words that stand by themselves."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Badges:
    """Badges in a row."""

    kind: ClassVar[str] = "badges"
    badges: tuple[Badge, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A number large, with what it is of and how far to trust it."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """Cards side by side."""

    kind: ClassVar[str] = "cards"
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a bar: its share of the axis, from 0 to 1, and the property of its colour, which may be paler."""

    share: float
    colour: str
    is_light: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A row of bars: what it is of, its pieces, its figure, more behind it, and an interval as shares of the axis."""

    name: str
    parts: tuple[Part, ...]
    value: str
    change: str = ""
    end: str = ""
    whisker: tuple[float, float] | None = None
    is_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Bars below each other on one axis that begins at 0, drawn for the width of the screen; ``legend`` names parts."""

    kind: ClassVar[str] = "bars"
    title: str
    bars: tuple[Bar, ...]
    legend: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    """The one line to look at first; ``href`` leads to its row, "" where there is none."""

    kind: ClassVar[str] = "culprit"
    title: str
    place: str
    code: str = ""
    text: str = ""
    instead: str = ""
    href: str = ""
    colour: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A drawing as SVG that is safe to stand in a page; its numbers stand in a table as well.

    ``lanes`` is what the script of the page draws in its place, as ``timeline_data`` packs it, "" for nothing.
    """

    kind: ClassVar[str] = "plot"
    svg: str
    label: str
    caption: str
    lanes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """A picture as a data URI; ``name`` is what it is called beside others of its case, "" for one of differences."""

    uri: str
    width: int
    height: int
    alt: str
    caption: str
    name: str = ""


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
    blocks: tuple[Block, ...]


Block = Text | Heading | Bullets | Code | Links | TableBlock | Badges | Cards | Bars | Culprit | Plot | Photos | Fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page with an anchor of its own.

    ``title`` stands in the contents and, unless there is a ``headline``, above it. One with ``folded``, words on what
    is inside, is closed until somebody opens it.
    """

    anchor: str
    title: str
    blocks: tuple[Block, ...]
    headline: tuple[Span, ...] = ()
    folded: str = ""

    @property
    def heading(self) -> str:
        """What stands above it, in words."""
        return "".join(span.text for span in self.headline) or self.title


def first_screen(headline: Sequence[Span], *blocks: Block | None) -> Section:
    """The section that answers, with its blocks in order; those that are None, and cards of nothing, are left out."""
    shown = (each for each in blocks if each is not None and each != Cards(cards=()))
    return Section(anchor="answer", title="Answer", headline=tuple(headline), blocks=tuple(shown))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All of it; the headline of the first section is that of the page, ``subtitle`` the line above it.

    ``data_json`` are the numbers of the tables for programs, ``beside`` a file that has them as text.
    """

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    data_json: str
    beside: str = ""


def tables(*found: Table) -> tuple[TableBlock, ...]:
    """Each table as a block."""
    return tuple(TableBlock(table=table) for table in found)


_T = TypeVar("_T")

MAX_ROWS = 300
"""Of a table, and items of a list."""
MAX_CELLS = 20_000
"""Of all tables of a page."""
MAX_SVG_BYTES = 2_000_000
"""Of all drawings of a page."""
MAX_POINTS = 300
"""Of a series in a drawing."""
MAX_TITLE = 300
REST = "the rest is in the result"


def shortened(text: str) -> str:
    """A title that may name many variants."""
    return text if len(text) <= MAX_TITLE else f"{text[: MAX_TITLE - 1]}…"


def thinned(points: Sequence[_T]) -> list[_T]:
    """At most ``MAX_POINTS`` of them, evenly, and the last."""
    step = -(-len(points) // MAX_POINTS)
    return list(points) if step <= 1 else [*points[:-1:step], points[-1]]


def bounded(*sections: Section, rest: str = REST) -> tuple[Section, ...]:
    """The sections with long tables and lists cut, and without the drawings for which there is no room.

    ``rest`` says where all of it is.
    """
    room = _Room(rest=rest)
    return tuple(
        dataclasses.replace(each, blocks=tuple(room.fitted(block) for block in each.blocks)) for each in sections
    )


@dataclasses.dataclass(slots=True)
class _Room:
    """What is left of a page."""

    rest: str = REST
    svg_bytes: int = MAX_SVG_BYTES
    cells: int = MAX_CELLS

    def fitted(self, block: Block) -> Block:
        """The block, or as much of it as there is room for."""
        match block:
            case TableBlock():
                return self._table(block)
            case Bullets() if len(block.items) > MAX_ROWS:
                more = f"and {len(block.items) - MAX_ROWS} more; {self.rest}"
                return dataclasses.replace(block, items=(*block.items[:MAX_ROWS], more))
            case Plot():
                self.svg_bytes -= len(block.svg)
                if self.svg_bytes > len(block.lanes):
                    self.svg_bytes -= len(block.lanes)
                else:
                    block = dataclasses.replace(block, lanes="")
                return block if self.svg_bytes > 0 else Text(text=f"{block.caption} Left out: no room.", style="note")
            case Fold():
                return dataclasses.replace(block, blocks=tuple(map(self.fitted, block.blocks)))
            case _:
                return block

    def _table(self, block: TableBlock) -> TableBlock:
        table, width = block.table, max(len(block.table.columns), 1)
        number = min(len(table.rows), MAX_ROWS, max(self.cells // width, 1))
        self.cells -= number * width
        if number == len(table.rows):
            return block
        more = f"{counted(len(table.rows) - number, 'row')} more are not shown; {self.rest}"
        caption = "; ".join(filter(None, (table.caption, more)))
        cut = dataclasses.replace(table, rows=table.rows[:number], caption=caption)
        return dataclasses.replace(block, table=cut, row_ids=block.row_ids[:number])
