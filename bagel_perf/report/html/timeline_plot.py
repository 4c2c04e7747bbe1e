"""One call of a region under several variants, on one time axis: CPU, host waits, GPU, and why the GPU was idle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bagel_perf.records.sites import HINTS, KINDS
from bagel_perf.records.traces import CAUSES, LANES, MAX_SEGMENTS, Cause, Lanes
from bagel_perf.report.html import svg
from bagel_perf.report.html.colours import cause_name, kind_name, stand_in
from bagel_perf.report.trace_tables import CAUSE_LABELS

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
ROW = len(LANE_NAMES) + 0.8
"""Lanes of a variant and the space below them, in units of the y axis."""


Bar = tuple[float, float, str, float]
"""Begin and end in ms, label, and the share of the lane's height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A variant and the call of it that is drawn.

    ``places`` says where each of ``lanes.syncs`` waits, if known, and ``rows`` the anchor of the row of that line;
    ``colour`` is the property of the variant, "" where it has none.
    """

    variant: str
    lanes: Lanes
    places: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    colour: str = ""


def timeline_svg(key: str, strips: Sequence[Strip], axis: str = DURATION) -> str:
    """Strips below each other, each from the begin of its call on; as wide as the longest, ``axis`` below."""

    titles: dict[str, str] = {}

    kinds = _kind_colours(strips)
    num_entries = len(list(_legend(strips, kinds)))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        longest_ms = max(strip.lanes.end_ms - strip.lanes.start_ms for strip in strips)
        for row, strip in enumerate(strips):
            _paint_strip(axes, strip.lanes, row * ROW)
            _paint_nothing(axes, strip.lanes, row * ROW, 0.004 * longest_ms)
            titles.update(_paint_waits(axes, strip, row, kinds, LEAST_SHARE * longest_ms))
        ticks = [row * ROW + lane for row in range(len(strips)) for lane in range(len(LANE_NAMES))]
        names = [
            f"{svg.short(strip.variant)}  {lane}" if lane == "CPU" else lane
            for strip in strips
            for lane in LANE_NAMES.values()
        ]
        axes.set_yticks(ticks, names)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(strips) * ROW - 0.8, -0.7)
        axes.set_xlim(0, longest_ms)
        axes.set_xlabel(axis)
        handles = list(_legend(strips, kinds))
        figure.legend(handles=handles, loc="outside lower left", ncols=LEGEND_COLUMNS)

    height_in = 0.75 + 0.85 * len(strips) + LEGEND_ROW_IN * -(-num_entries // LEGEND_COLUMNS)
    return svg.draw(key, height_in, paint, titles)


def has_shares(lanes: Lanes, lane: str) -> bool:
    """Whether it is known how full each segment is: they were not merged, or the profile says it."""
    number = len(getattr(lanes, lane))
    return number < MAX_SEGMENTS or len(lanes.shares.get(lane, ())) == number


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


def _kind_colours(strips: Sequence[Strip]) -> dict[str, str]:
    """Of the kinds that are drawn, in the order of ``KINDS``; those of another version share a colour."""
    found = {kind for strip in strips for _, _, kind in strip.lanes.syncs}
    order = [*(kind for kind in KINDS if kind in found), *sorted(found - {*KINDS})]
    return {kind: stand_in(kind_name(kind)) for kind in order}


def _paint_strip(axes: Axes, lanes: Lanes, top: float) -> None:
    zero = lanes.start_ms
    _bars(axes, bars_of(lanes, "cpu"), zero, top, CPU)
    _bars(axes, bars_of(lanes, "gpu"), zero, top + 2, GPU)
    idle = bars_of(lanes, "idle")
    for name, colour in IDLE_COLOURS.items():
        height, _ = HEIGHTS.get(name, (LANE_HEIGHT, ""))
        _bars(axes, [bar for bar in idle if bar[2] == name], zero, top + 3, colour, height=height)


def _paint_nothing(axes: Axes, lanes: Lanes, top: float, left_ms: float) -> None:
    """Words in each lane in which nothing happened, so that it is not taken for one that was left out."""
    for number, lane in enumerate(LANE_NAMES):
        if not getattr(lanes, lane):
            axes.text(left_ms, top + number, NOTHING[lane], va="center", fontsize=8, color=svg.MUTED)


def _paint_waits(
    axes: Axes, strip: Strip, row: int, kinds: Mapping[str, str], least_ms: float
) -> Iterator[tuple[str, str]]:
    """The waits of each kind and place; gives the gid and title of those whose place is known."""
    groups: dict[tuple[str, str], list[Bar]] = {}
    for (begin, end, kind, share), place in waits_of(strip):
        groups.setdefault((kind, place), []).append((begin, max(end, begin + least_ms), kind, share))
    for number, ((kind, place), bars) in enumerate(groups.items()):
        gid = f"waits-{row}-{number}" if place else None
        _bars(axes, bars, strip.lanes.start_ms, row * ROW + 1, kinds[kind], gid=gid)
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
    """The words for a kind of wait; the kind itself where it is of another version."""
    known: Mapping[str, str] = {name: hint.label for name, hint in HINTS.items()}
    return svg.short(known.get(kind, kind))
