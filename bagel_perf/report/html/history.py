"""How each change of latency developed over several results, and where it became another one.

A line joins results of one device, the same versions and the same subject; results of another environment have a line
of their own.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from bagel_perf.records.outlines import WHOLE
from bagel_perf.records.results import Delta
from bagel_perf.report.html import svg
from bagel_perf.report.html.content import Block, Fold, Plot, Section, TableBlock, Text
from bagel_perf.report.html.source import Source
from bagel_perf.report.table import Column, Table, change_text, counted, listed, sentences, stage_text
from bagel_perf.verdicts.comparability import unlike_makings, unlike_subjects

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


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
MAX_STAGES = 3
"""Beside each other."""
LEGEND_CHARS = 128
"""Of a row of the legend."""
LINES = ("-", "--", ":", "-.")
Series = dict[tuple[str, str, int], list[Point]]
"""By stage, candidate and number of the environment."""
NOTE = sentences(
    "a change point is where the interval has nothing in common with that of the results since the last one",
    "that of several results has the medians of their bounds",
    "of many cells some do so by chance",
    "results of another environment are never held against each other",
)


def history_section(sources: Sequence[Source]) -> Section:
    """A drawing and a table for each resolution, those of the last result first."""
    newest_first = (source.result.deltas for source in reversed(sources))
    found = dict.fromkeys(delta.case for deltas in newest_first for delta in deltas)
    history = History(sources=sources, groups=environments(sources))
    blocks = [block for index, case in enumerate(found) for block in _blocks(history, index, case)]
    told = [Text(text=text) for text in subject_texts(sources)]
    names = TableBlock(table=_name_table(history))
    rest = blocks or [Text(text="No change to follow.")]
    return Section(anchor="history", title="History", blocks=(*told, names, *rest))


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Results, and for each the number of its environment."""

    sources: Sequence[Source]
    groups: Sequence[int]


def environments(sources: Sequence[Source]) -> list[int]:
    """For each result the number of its environment: device, versions and subject, but not the commit."""
    groups: list[Source] = []
    numbers = []
    for source in sources:
        number = next((index for index, each in enumerate(groups) if _are_alike(each, source)), len(groups))
        groups[number : number + 1] = [source]
        numbers.append(number)
    return numbers


def _are_alike(ours: Source, theirs: Source) -> bool:
    return _title(ours) == _title(theirs) and not _differences(ours, theirs)


def _title(source: Source) -> tuple[str, str]:
    return source.result.subject.kind, source.result.subject.title


def _differences(ours: Source, theirs: Source) -> dict[str, None]:
    subjects = unlike_subjects(ours.result.subject, theirs.result.subject)
    return dict.fromkeys([*unlike_makings(ours.result, theirs.result), *subjects])


def subject_texts(sources: Sequence[Source]) -> Iterator[str]:
    """Which result the page is about, where a newer one is not it."""
    last = sources[-1]
    newer = [str(number) for number, source in enumerate(sources, 1) if source.created > last.created]
    if newer:
        results = f"{'result' if len(newer) == 1 else 'results'} {listed(newer)}"
        kinds = {"cuda": "a GPU", "server": "servers", "cpu": "a CPU"}
        yield (
            f"This page is about result {len(sources)}, the newest of {kinds[last.result.environment.device_kind]}. "
            f"{results.capitalize()} {'is' if len(newer) == 1 else 'are'} newer, but of a lesser kind of device, "
            "and this section alone shows results of it."
        )


def _letter(group: int) -> str:
    return ascii_uppercase[group] if group < len(ascii_uppercase) else str(group + 1)


def _name_table(history: History) -> Table:
    pairs = [*zip(history.sources, history.groups, strict=True)]
    firsts = dict(reversed([(group, source) for source, group in pairs]))
    rows = tuple(
        (str(number), source.name, _environment_text(source, group, firsts), source.result.command)
        for number, (source, group) in enumerate(pairs, 1)
    )
    headers = ("number", "result", "environment", "command")
    columns = tuple(Column(header=header, numeric=header == "number") for header in headers)
    number = len(set(history.groups))
    caption = sentences(
        "results of a GPU stand below those of servers, and these below those of a CPU, each oldest first",
        f"there are {counted(number, 'environment')}, and a line joins results of one" if number > 1 else "",
    )
    return Table(title="Results", columns=columns, rows=rows, caption=caption)


def _environment_text(source: Source, group: int, firsts: Mapping[int, Source]) -> str:
    """Device, torch and subject, and what else differs from an environment before it that has these too."""
    text = _short_text(source)
    before = [other for number, other in firsts.items() if number < group and _short_text(other) == text]
    differs = f"; {', '.join(_differences(before[0], source))}" if before else ""
    return f"{_letter(group)}: {text}{differs}"


def _short_text(source: Source) -> str:
    environment = source.result.environment
    torch = "" if environment.torch is None else f"torch {environment.torch}"
    return ", ".join(filter(None, (environment.device_name, torch, source.result.subject.title)))


def _blocks(history: History, index: int, case: str) -> Iterator[Block]:
    series = _series(history, case)
    if series:
        label = f"Paired changes at {case} over the results"
        caption = sentences(
            label,
            "bars are intervals by themselves, and rings are change points",
            "numbers and letters are those of the table of results",
            "a dotted line marks where the environment changes" if len(set(history.groups)) > 1 else "",
        )
        drawing = svg.draw(f"history{index}", _height_in(series), lambda figure: _paint(figure, series, history))
        yield Plot(svg=drawing, label=label, caption=caption)
        yield Fold(summary=label, blocks=(TableBlock(table=_table(history, label, series)),))


def _series(history: History, case: str) -> Series:
    """Of each named candidate, against the reference that it has in the newest result of its environment."""
    found: Series = {}
    for source, group in zip(reversed(history.sources), reversed(history.groups), strict=True):
        for last in source.result.deltas:
            key = last.stage, last.candidate, group
            if last.case == case and last.candidate in source.result.named and key not in found:
                points = _points(history.sources, last)
                found[key] = [point for point in points if history.groups[point.number] == group]
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


def _stages(series: Series) -> list[str]:
    return list(dict.fromkeys(stage for stage, *_ in sorted(series, key=lambda each: each[0] == WHOLE)))


def _legend_columns(names: Sequence[str]) -> int:
    return max(LEGEND_CHARS // (max(map(len, names)) + 6), 1)


def _height_in(series: Series) -> float:
    names = list(dict.fromkeys(svg.short(name) for _, name, _ in series))
    legend_rows = math.ceil(len(names) / _legend_columns(names))
    return 2.3 * math.ceil(len(_stages(series)) / MAX_STAGES) + 0.19 * legend_rows


def _paint(figure: Figure, series: Series, history: History) -> None:
    # The same in every drawing, so that a variant keeps its colour.
    variants = list(dict.fromkeys(name for source in reversed(history.sources) for name in source.result.named))
    stages = _stages(series)
    width = min(len(stages), MAX_STAGES)
    grid = figure.subplots(math.ceil(len(stages) / width), width, squeeze=False).flat
    handles: dict[str, Any] = {}
    for axes, stage in itertools.zip_longest(grid, stages):
        if stage is None:
            axes.set_axis_off()
            continue
        for (own, name, group), points in series.items():
            if own == stage:
                index = variants.index(name)
                style = {**svg.style_of(index), "linestyle": _line_of(history, group)}
                handles.setdefault(svg.short(name), _paint_series(axes, points, index, len(variants), style))
        _paint_frame(axes, stage, [each.delta for key, found in series.items() if key[0] == stage for each in found])
        _paint_results(axes, history)
    figure.legend(
        [*handles.values()], [*handles], loc="outside lower left", ncols=_legend_columns([*handles]), handlelength=2.4
    )


def _line_of(history: History, group: int) -> str:
    """Full for the environment of the last result."""
    others = [each for each in dict.fromkeys(history.groups) if each != history.groups[-1]]
    return LINES[0] if group not in others else LINES[1 + others.index(group) % (len(LINES) - 1)]


def _paint_frame(axes: Axes, stage: str, deltas: Sequence[Delta]) -> None:
    axes.axhline(0, color=svg.INK, linewidth=0.8)
    axes.set_title(f"{svg.short(stage_text(stage))} (%)", loc="left")
    plain = [each for each in deltas if svg.is_plain(each.delta_pct, *(each.ci_pct or ()))]
    if plain:
        ends = [end for each in plain for end in each.ci_pct or ()]
        axes.set_ylim(svg.limits([each.delta_pct for each in plain], ends))
    axes.grid(axis="y")


def _paint_results(axes: Axes, history: History) -> None:
    """Numbers of results, and below them the letter of the environment where there are several."""
    number, groups = len(history.sources), history.groups
    every = range(0, number, 1 + (number - 1) // MAX_TICKS)
    are_many = len(set(groups)) > 1
    axes.set_xticks(every, [f"{each + 1}\n{_letter(groups[each])}" if are_many else f"{each + 1}" for each in every])
    axes.set_xlim(-0.5, number - 0.5)
    for index, (before, after) in enumerate(itertools.pairwise(groups)):
        if before != after:
            axes.axvline(index + 0.5, color=svg.MUTED, linewidth=1, linestyle=":")


def _paint_series(axes: Axes, points: list[Point], index: int, number: int, style: dict[str, Any]) -> Line2D:
    shift = (index - (number - 1) / 2) * 0.8 / max(number, 8)
    plain = [each for each in points if svg.is_plain(each.delta.delta_pct, *(each.delta.ci_pct or ()))]
    changed = {each.number for each, has_moved in zip(points, change_points(points), strict=True) if has_moved}
    xs, ys = [each.number + shift for each in plain], [each.delta.delta_pct for each in plain]
    (line,) = axes.plot(xs, ys, markersize=4.5, **style)
    for x, y, point in zip(xs, ys, plain, strict=True):
        if point.delta.ci_pct is not None:
            axes.plot((x, x), point.delta.ci_pct, color=style["color"], linewidth=1.3)
        if point.number in changed:
            axes.plot([x], [y], marker="o", markersize=11, markerfacecolor="none", color=style["color"])
    return line


def _table(history: History, title: str, series: Series) -> Table:
    rows = []
    for (_, candidate, group), points in series.items():
        for before, point, has_moved in zip((None, *points), points, change_points(points), strict=False):
            label = stage_text(point.delta.stage)
            note = _note(before is None, has_moved)
            rows.append(
                (label, candidate, _letter(group), str(point.number + 1), change_text(point.delta, sign=""), note)
            )
    headers = ("stage", "candidate", "environment", "result", "paired change (%)", "change point")
    columns = tuple(Column(header=header, numeric=header.startswith(("result", "paired"))) for header in headers)
    return Table(title=title, columns=columns, rows=tuple(rows), caption=NOTE)


def _note(is_first: bool, has_moved: bool | None) -> str:
    if is_first:
        return "first"
    return {True: "changed", False: "no change shown", None: "no interval"}[has_moved]
