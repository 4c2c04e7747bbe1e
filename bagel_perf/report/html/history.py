"""How each change of latency developed over several results, oldest first, and where it became another one."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bagel_perf.records.outlines import WHOLE
from bagel_perf.records.results import Delta
from bagel_perf.report.html import svg
from bagel_perf.report.html.content import Block, Fold, Plot, Section, TableBlock, Text
from bagel_perf.report.html.source import Source
from bagel_perf.report.table import Column, Table, change_text, stage_text
from bagel_perf.verdicts.comparability import unlike_makings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One cell of the result with this number in a history."""

    number: int
    delta: Delta


def change_points(points: Sequence[Point]) -> Iterator[bool | None]:
    """For each point whether a new level begins there; None for the first, and where an interval is missing.

    A level has as its interval the medians of the bounds of its points, so that neither one odd result decides nor many
    small steps in one direction go unseen. A point begins a new level where its interval has nothing in common with
    that, which errs on the side of no change.
    """
    level: list[tuple[float, float]] = []
    for point in points:
        interval = point.delta.ci_pct
        if interval is None or not level:
            yield None
        else:
            low, high = (statistics.median(bounds) for bounds in zip(*level, strict=True))
            has_moved = interval[0] > high or interval[1] < low
            level = [] if has_moved else level
            yield has_moved
        if interval is not None:
            level.append(interval)


MAX_TICKS = 12
Series = dict[tuple[str, str], list[Point]]
"""By stage and candidate."""
NOTE = (
    "changed: a change point, where the interval has nothing in common with that of the results since the last one "
    "(medians of their bounds); of many cells some do so by chance, and an environment that differs may be the cause"
)


def history_section(sources: Sequence[Source]) -> Section:
    """A drawing and a table for each resolution, those of the last result first."""
    newest_first = (source.result.deltas for source in reversed(sources))
    found = dict.fromkeys(delta.case for deltas in newest_first for delta in deltas)
    blocks = [block for index, case in enumerate(found) for block in _blocks(sources, index, case)]
    names = TableBlock(table=_name_table(sources))
    return Section(anchor="history", title="History", blocks=(names, *(blocks or [Text(text="No change to follow.")])))


def _name_table(sources: Sequence[Source]) -> Table:
    rows = tuple((str(number), source.name, source.result.command) for number, source in enumerate(sources, 1))
    columns = Column(header="number", numeric=True), Column(header="result"), Column(header="command")
    return Table(title="Results, oldest first", columns=columns, rows=rows)


def _blocks(sources: Sequence[Source], index: int, case: str) -> Iterator[Block]:
    series = _series(sources, case)
    if series:
        label = f"Paired changes at {case} over the results"
        caption = f"{label}. Bars are intervals by themselves, rings change points; numbers: the table of results."
        drawing = svg.draw(f"history{index}", 2.6, lambda figure: _paint(figure, series, sources))
        yield Plot(svg=drawing, label=label, caption=caption)
        yield Fold(summary=label, blocks=(TableBlock(table=_table(sources, label, series)),))


def _series(sources: Sequence[Source], case: str) -> Series:
    """Of each named candidate, against the reference that it has in the newest result which holds it."""
    found: Series = {}
    for source in reversed(sources):
        for last in source.result.deltas:
            if last.case == case and last.candidate in source.result.named:
                found.setdefault((last.stage, last.candidate), _points(sources, last))
    return found


def _points(sources: Sequence[Source], last: Delta) -> list[Point]:
    return [
        Point(number=number, delta=delta)
        for number, source in enumerate(sources)
        for delta in source.result.deltas
        if _cell(delta) == _cell(last)
    ]


def _cell(delta: Delta) -> tuple[object, ...]:
    return delta.case, delta.stage, delta.reference, delta.candidate


def _paint(figure: Figure, series: Series, sources: Sequence[Source]) -> None:
    number = len(sources)
    # The same in every drawing, so that a variant keeps its colour.
    variants = list(dict.fromkeys(name for source in reversed(sources) for name in source.result.named))
    stages = list(dict.fromkeys(stage for stage, _ in sorted(series, key=lambda each: each[0] == WHOLE)))
    grid = figure.subplots(1, len(stages), squeeze=False)
    for column, stage in enumerate(stages):
        axes = grid[0][column]
        for index, name in enumerate(variants):
            if (stage, name) in series:
                _paint_series(axes, series[stage, name], index, len(variants), name)
        axes.axhline(0, color=svg.INK, linewidth=0.8)
        axes.set_title(f"{stage_text(stage)} (%)", loc="left")
        every = range(0, number, 1 + (number - 1) // MAX_TICKS)
        axes.set_xticks(every, [str(each + 1) for each in every])
        points = [each.delta for (name, _), found in series.items() if name == stage for each in found]
        plain = [each for each in points if svg.is_plain(each.delta_pct, *(each.ci_pct or ()))]
        if plain:
            ends = [end for each in plain for end in each.ci_pct or ()]
            axes.set_ylim(svg.limits([each.delta_pct for each in plain], ends))
        axes.set_xlim(-0.5, number - 0.5)
        axes.grid(axis="y")
    grid[0][-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _paint_series(axes: Axes, points: list[Point], index: int, number: int, name: str) -> None:
    shift = (index - (number - 1) / 2) * 0.1
    style = svg.style_of(index)
    plain = [each for each in points if svg.is_plain(each.delta.delta_pct, *(each.delta.ci_pct or ()))]
    changed = {each.number for each, has_moved in zip(points, change_points(points), strict=True) if has_moved}
    xs, ys = [each.number + shift for each in plain], [each.delta.delta_pct for each in plain]
    axes.plot(xs, ys, markersize=4.5, label=svg.short(name), **style)
    for x, y, point in zip(xs, ys, plain, strict=True):
        if point.delta.ci_pct is not None:
            axes.plot((x, x), point.delta.ci_pct, color=style["color"], linewidth=1.3)
        if point.number in changed:
            axes.plot([x], [y], marker="o", markersize=11, markerfacecolor="none", color=style["color"])


def _table(sources: Sequence[Source], title: str, series: Series) -> Table:
    rows = []
    for (_, candidate), points in series.items():
        for before, point, has_moved in zip((None, *points), points, change_points(points), strict=False):
            label = stage_text(point.delta.stage)
            note = _note(sources, before, point, has_moved)
            rows.append((label, candidate, str(point.number + 1), change_text(point.delta), note))
    headers = ("stage", "candidate", "result", "paired change (interval)", "change point")
    columns = tuple(Column(header=header, numeric=header.startswith(("result", "paired"))) for header in headers)
    return Table(title=title, columns=columns, rows=tuple(rows), caption=NOTE)


def _note(sources: Sequence[Source], before: Point | None, point: Point, has_moved: bool | None) -> str:
    if before is None:
        return "first"
    ours, theirs = (sources[each.number].result for each in (point, before))
    other = ", environment differs" if unlike_makings(theirs, ours) else ""
    state = {True: "changed", False: "no change shown", None: "no interval"}[has_moved]
    return state + other
