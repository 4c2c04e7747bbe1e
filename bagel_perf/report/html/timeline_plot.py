"""One call of a region under several variants, on one time axis: CPU, host waits, GPU, and why the GPU was idle."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bagel_perf.records.sites import KINDS
from bagel_perf.records.traces import CAUSES, LANES, Cause, Lanes
from bagel_perf.report.html import svg
from bagel_perf.report.html.colours import cause_name, kind_name, stand_in
from bagel_perf.report.trace_tables import CAUSE_LABELS, label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

IDLE_COLOURS: dict[Cause, str] = {cause: stand_in(cause_name(cause)) for cause in CAUSES}
CPU, GPU = stand_in("l-cpu"), stand_in("l-gpu")
LANE_NAMES = {"cpu": "CPU", "syncs": "waits", "gpu": "GPU", "idle": "idle"}
"""From top to bottom."""
NOTHING = {"cpu": "nothing recorded", "syncs": "no wait", "gpu": "no work", "idle": "never idle"}
"""What stands in a lane without bars."""
LANE_HEIGHT = 0.8
HEIGHTS: dict[Cause, tuple[float, str]] = {
    "launch_overhead": (0.5, "half as high"),
    "queued": (0.5, "half as high"),
    "unrecorded_work": (0.2, "thin"),
    "unknown": (0.2, "thin"),
}
"""Of causes that a colour alone would not tell from others, with the word for it."""
LEGEND_COLUMNS, LEGEND_ROW_IN = 4, 0.18
DURATION = "ms since the call began, in a profiled run"
LEAST_SHARE = 0.0012
"""Of the axis: as wide is a wait drawn at least, about a pixel, so that one of microseconds is seen."""
LEAST_HEIGHT = 0.06
"""Of a lane: as high is a bar drawn at least, however little of it is filled."""
SPACE = 0.8
"""Below the lanes of a variant, in units of the y axis, of which a lane has 1."""


MAX_DRAWN = 400
"""Bars of a lane in a drawing; the script of the page draws all that there are."""
UNMERGED = 400
"""Of a lane in files that do not say how full its segments are: with fewer than these none was merged."""

Bar = tuple[float, float, str, float]
"""Begin and end in ms, label, and the share of the lane's height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A variant and the call of it that is drawn.

    ``places`` says where each of ``lanes.syncs`` waits, if known, and ``rows`` the anchor of the row of that line;
    ``colour`` is the property of the variant, "" where it has none. ``names`` are those of its lanes that are drawn.
    """

    variant: str
    lanes: Lanes
    places: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    colour: str = ""
    names: tuple[str, ...] = LANES


def timeline_svg(key: str, strips: Sequence[Strip], axis: str = DURATION) -> str:
    """Strips below each other, each from the begin of its call on; as wide as the longest, ``axis`` below."""

    titles: dict[str, str] = {}

    kinds = _kind_colours(strips)
    tops = [0.0, *itertools.accumulate(len(strip.names) + SPACE for strip in strips)]
    num_entries = len(list(_legend(strips, kinds)))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        longest_ms = max(strip.lanes.end_ms - strip.lanes.start_ms for strip in strips)
        for row, (strip, top) in enumerate(zip(strips, tops, strict=False)):
            _paint_strip(axes, strip, top)
            _paint_nothing(axes, strip, top, 0.004 * longest_ms)
            if "syncs" in strip.names:
                titles.update(_paint_waits(axes, strip, row, top, kinds, LEAST_SHARE * longest_ms))
        ticks = [top + lane for strip, top in zip(strips, tops, strict=False) for lane in range(len(strip.names))]
        names = [
            f"{svg.short(strip.variant)}  {LANE_NAMES[lane]}" if lane == strip.names[0] else LANE_NAMES[lane]
            for strip in strips
            for lane in strip.names
        ]
        axes.set_yticks(ticks, names)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(tops[-1] - SPACE, -0.7)
        axes.set_xlim(0, longest_ms)
        axes.set_xlabel(axis)
        handles = list(_legend(strips, kinds))
        figure.legend(handles=handles, loc="outside lower left", ncols=LEGEND_COLUMNS)

    height_in = 0.75 + 0.177 * tops[-1] + LEGEND_ROW_IN * -(-num_entries // LEGEND_COLUMNS)
    return svg.draw(key, height_in, paint, titles)


def has_shares(lanes: Lanes, lane: str) -> bool:
    """Whether it is known how full each segment is: they were not merged, or the profile says it."""
    number = len(getattr(lanes, lane))
    return number < UNMERGED or len(lanes.shares.get(lane, ())) == number


def is_drawn_whole(lanes: Lanes) -> bool:
    """Whether all lanes are drawn."""
    return all(has_shares(lanes, lane) for lane in LANES)


def bars_of(lanes: Lanes, lane: str) -> list[Bar]:
    """Begin, end, label and share of each segment; none where it is not known how full merged ones are."""
    segments = getattr(lanes, lane)
    if not has_shares(lanes, lane):
        return []
    shares = lanes.shares.get(lane) or (1.0,) * len(segments)
    return [(*segment, share) for segment, share in zip(segments, shares, strict=True)]


def waits_of(strip: Strip) -> list[tuple[Bar, str]]:
    """The bars of host syncs, each with its place, "" where that is not known."""
    bars = bars_of(strip.lanes, "syncs")
    return list(zip(bars, strip.places if bars and strip.places else ("",) * len(bars), strict=True))


def drawn_bars(lanes: Lanes, lane: str) -> list[Bar]:
    """The bars of a lane, merged down to ``MAX_DRAWN``."""
    return [
        (begin, end, label, share)
        for (begin, end, label, share), _ in coarser([(bar, "") for bar in bars_of(lanes, lane)])
    ]


def coarser(bars: Sequence[tuple[Bar, str]]) -> list[tuple[Bar, str]]:
    """Bars with their places, those with the least gaps between them merged until there are ``MAX_DRAWN``.

    What is merged has the label and place that most of it has.
    """
    if len(bars) <= MAX_DRAWN:
        return list(bars)
    gaps = [after[0][0] - before[0][1] for before, after in itertools.pairwise(bars)]
    kept = sorted(sorted(range(len(gaps)), key=lambda each: -gaps[each])[: MAX_DRAWN - 1])
    begins = [0, *(each + 1 for each in kept)]
    return [_merged(bars[begin:end]) for begin, end in zip(begins, [*begins[1:], len(bars)], strict=True)]


def _merged(bars: Sequence[tuple[Bar, str]]) -> tuple[Bar, str]:
    begin, end = bars[0][0][0], max(bar[1] for bar, _ in bars)
    filled: dict[tuple[str, str], float] = {}
    for (left, right, label, share), place in bars:
        filled[label, place] = filled.get((label, place), 0.0) + (right - left) * share
    label, place = max(filled, key=lambda each: filled[each])
    share = min(sum(filled.values()) / (end - begin), 1.0) if end > begin else 1.0
    return (begin, end, label, share), place


def _kind_colours(strips: Sequence[Strip]) -> dict[str, str]:
    """Of the kinds that are drawn, in the order of ``KINDS``; those of another version share a colour."""
    found = {kind for strip in strips for _, _, kind in strip.lanes.syncs}
    order = [*(kind for kind in KINDS if kind in found), *sorted(found - {*KINDS})]
    return {kind: stand_in(kind_name(kind)) for kind in order}


def _paint_strip(axes: Axes, strip: Strip, top: float) -> None:
    zero = strip.lanes.start_ms
    at = {lane: top + number for number, lane in enumerate(strip.names)}
    for lane, colour in (("cpu", CPU), ("gpu", GPU)):
        if lane in at:
            _bars(axes, drawn_bars(strip.lanes, lane), zero, at[lane], colour)
    idle = drawn_bars(strip.lanes, "idle")
    for name, colour in IDLE_COLOURS.items():
        height, _ = HEIGHTS.get(name, (LANE_HEIGHT, ""))
        _bars(axes, [bar for bar in idle if bar[2] == name], zero, at["idle"], colour, height=height)


def _paint_nothing(axes: Axes, strip: Strip, top: float, left_ms: float) -> None:
    """Words in each lane in which nothing happened, so that it is not taken for one that was left out."""
    for number, lane in enumerate(strip.names):
        if not getattr(strip.lanes, lane):
            axes.text(left_ms, top + number, NOTHING[lane], va="center", fontsize=8, color=svg.MUTED)


def _paint_waits(
    axes: Axes, strip: Strip, row: int, top: float, kinds: Mapping[str, str], least_ms: float
) -> Iterator[tuple[str, str]]:
    """The waits of each kind and place; gives the gid and title of those whose place is known."""
    groups: dict[tuple[str, str], list[Bar]] = {}
    for (begin, end, kind, share), place in coarser(waits_of(strip)):
        groups.setdefault((kind, place), []).append((begin, max(end, begin + least_ms), kind, share))
    for number, ((kind, place), bars) in enumerate(groups.items()):
        gid = f"waits-{row}-{number}" if place else None
        _bars(axes, bars, strip.lanes.start_ms, top + strip.names.index("syncs"), kinds[kind], gid=gid)
        if gid is not None:
            yield gid, f"{kind_label(kind)}: {place}"


def _bars(
    axes: Axes,
    bars: Sequence[Bar],
    zero_ms: float,
    y: float,
    colour: str,
    *,
    gid: str | None = None,
    height: float = LANE_HEIGHT,
) -> None:
    """All of a lane as one path, which keeps a page of thousands of them small; each stands on the lane's bottom."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if not bars:
        return
    low = y + LANE_HEIGHT / 2
    corners = [
        corner
        for begin, end, _, share in bars
        for left, right, high in [(begin - zero_ms, end - zero_ms, low - height * max(share, LEAST_HEIGHT))]
        for corner in ((left, low), (right, low), (right, high), (left, high), (left, low))
    ]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(bars)
    axes.add_patch(PathPatch(Path(corners, codes), facecolor=colour, linewidth=0, gid=gid))


def _legend(strips: Sequence[Strip], kinds: Mapping[str, str]) -> Iterator[Patch]:
    from matplotlib.patches import Patch as Square

    yield Square(color=CPU, label="CPU: operators and calls")
    yield Square(color=GPU, label="GPU: at work")
    yield from (Square(color=colour, label=f"wait: {kind_label(kind)}") for kind, colour in kinds.items())
    found = {name for strip in strips for _, _, name in strip.lanes.idle}
    for name, colour in IDLE_COLOURS.items():
        if name in found:
            _, word = HEIGHTS.get(name, (LANE_HEIGHT, ""))
            yield Square(color=colour, label=f"idle: {', '.join(filter(None, (CAUSE_LABELS[name], word)))}")


def kind_label(kind: str) -> str:
    """The words for a kind of wait, as a plot has room for them."""
    return svg.short(label_of(kind))
