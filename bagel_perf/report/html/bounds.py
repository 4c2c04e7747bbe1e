"""How much of a result a page shows, so that it opens at once whatever was measured: the rest is counted, not shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from bagel_perf.report.html.content import Block, Bullets, Fold, Plot, Section, TableBlock, Text
from bagel_perf.report.table import counted

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
                return block if self.svg_bytes > 0 else Text(text=f"{block.caption} Left out: no room.", style="note")
            case Fold():
                inner = (self.fitted(each) for each in block.blocks)
                return dataclasses.replace(block, blocks=tuple(e for e in inner if isinstance(e, Text | TableBlock)))
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
        return dataclasses.replace(block, table=dataclasses.replace(table, rows=table.rows[:number], caption=caption))
