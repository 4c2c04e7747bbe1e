"""Drawings of a trace: why devices were idle, how much work was queued, what ranks did; a file for trace viewers."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bagel_perf.records.trace_ranks import RankTrace
from bagel_perf.records.traces import Phase, TraceReport
from bagel_perf.report.html import svg
from bagel_perf.report.html.content import Link, Links, Plot, thinned
from bagel_perf.report.html.timeline_plot import (
    GPU,
    IDLE_COLOURS,
    LEGEND_COLUMNS,
    LEGEND_ROW_IN,
    Bar,
    Strip,
    coarser,
    drawn_bars,
    kind_label,
    waits_of,
)
from bagel_perf.report.ranks import exposed_ms
from bagel_perf.report.trace_tables import CAUSE_LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE = "bagel-perf-timelines.trace.json.gz"
VIEWERS = {"Perfetto": "https://ui.perfetto.dev", "speedscope": "https://www.speedscope.app"}
"""Both read the file as it is, in the browser, and send it nowhere."""
WHOLE = "bagel-perf syncs --variant NAME --keep-trace FILE keeps the trace of the whole run, for the same viewers."


def trace_links(strips: Mapping[str, Sequence[Strip]]) -> Links:
    """The file, and where to open it."""
    data = trace_bytes(strips)
    uri = f"data:application/gzip;base64,{base64.b64encode(data).decode('ascii')}"
    size = f"{len(data) / 1e3:.0f} kB, gzipped Trace Event Format, all that is drawn here"
    opened = "drop the file into it; it stays on your machine"
    return Links(
        links=(
            Link(text="Download the timelines as a trace", href=uri, download=FILE, note=size),
            *(Link(text=f"Open {name}", href=href, note=opened) for name, href in VIEWERS.items()),
        )
    )


def trace_bytes(strips: Mapping[str, Sequence[Strip]]) -> bytes:
    """Trace Event Format, gzipped: a process for each title and strip, a thread for each lane, from 0 on.

    Times are in microseconds, as that format has them. The same strips give the same bytes.
    """
    events = [event for pid, (title, strip) in enumerate(_all(strips), 1) for event in _events(pid, title, strip)]
    return gzip.compress(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}).encode(), mtime=0)


def _all(strips: Mapping[str, Sequence[Strip]]) -> Iterator[tuple[str, Strip]]:
    return ((title, strip) for title, found in strips.items() for strip in found)


def _events(pid: int, title: str, strip: Strip) -> Iterator[dict[str, Any]]:
    lanes = strip.lanes
    yield _name(pid, 0, "process_name", f"{strip.variant}: {title}")
    for tid, (lane, bars) in enumerate(
        (
            ("CPU: operators and calls", [(bar, "") for bar in drawn_bars(lanes, "cpu")]),
            ("CPU: host syncs", coarser(waits_of(strip))),
            ("GPU: at work", [(bar, "") for bar in drawn_bars(lanes, "gpu")]),
            ("GPU: idle, by cause", [(bar, "") for bar in drawn_bars(lanes, "idle")]),
        ),
        1,
    ):
        yield _name(pid, tid, "thread_name", lane)
        for bar, site in bars:
            yield _complete(pid, tid, bar, lane, lanes.start_ms, site)


def _label(lane: str, label: str) -> str:
    """Of a segment; a lane whose segments have none gives its own."""
    if lane.endswith("host syncs"):
        return kind_label(label)
    causes: dict[str, str] = {name: words for name, words in CAUSE_LABELS.items()}  # noqa: C416
    return causes.get(label, label) or lane.partition(": ")[2]


def _name(pid: int, tid: int, what: str, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": pid, "tid": tid, "name": what, "args": {"name": name}}


def _complete(pid: int, tid: int, bar: Bar, lane: str, zero_ms: float, site: str) -> dict[str, Any]:
    begin, end, label, share = bar
    times = {"ts": round((begin - zero_ms) * 1e3, 1), "dur": round((end - begin) * 1e3, 1)}
    event = {"ph": "X", "pid": pid, "tid": tid, "name": _label(lane, label), **times}
    notes = ({"site": site} if site else {}) | ({"merged, filled to": f"{share:.1%}"} if share < 1 else {})
    return {**event, "args": notes} if notes else event


BAR = 0.62
MAX_BARS = 64
CAUSES_CAPTION = (
    "How the time of the GPU passed, as shares of each stretch: at work, and idle by cause. Milliseconds below."
)
QUEUE_CAPTION = (
    "Work that was launched and had not begun, in the mean of {number} stretches of the window{cut}. Where the line is "
    "at 0 the GPU waits for the host; where it is high, the host is ahead."
)
RANKS_CAPTION = (
    "The window of each rank: computing and copies, communication beside which nothing was computed, and idle time. In "
    "communication a rank waits for those that arrive later."
)
RANK_PARTS = ((GPU, "at work"), (svg.PARTS[1], "exposed communication"), (svg.MUTED, "idle"))

Row = tuple[str, float, dict[str, float]]
"""Label, busy time in ms, and idle time in ms by cause."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a bar."""

    share: float
    colour: str


def cause_plot(report: TraceReport) -> Plot | None:
    """The whole window, the warm-up and the steady steps as bars of busy and idle time; None where it is unknown."""
    rows = cause_rows(report)
    if not rows:
        return None
    found = [cause for cause in IDLE_COLOURS if any(idle.get(cause) for *_, idle in rows)]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for y, (_, busy_ms, idle) in enumerate(rows):
            all_ms = busy_ms + sum(idle.values())
            parts = [(busy_ms, GPU), *((idle.get(cause, 0.0), IDLE_COLOURS[cause]) for cause in found)]
            _paint_bar(axes, y, [_Piece(ms / all_ms, colour) for ms, colour in parts])
        _finish(axes, [label for label, *_ in rows])
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        legend = [(GPU, "GPU: at work"), *((IDLE_COLOURS[cause], f"idle: {CAUSE_LABELS[cause]}") for cause in found)]
        _legend(figure, legend)

    label = "Why the GPU was idle"
    height_in = 0.5 + 0.42 * len(rows) + LEGEND_ROW_IN * -(-(len(found) + 1) // LEGEND_COLUMNS)
    return Plot(svg=svg.draw("causes", height_in, paint), label=label, caption=CAUSES_CAPTION)


def cause_rows(report: TraceReport) -> list[Row]:
    """The whole window, and each phase."""
    stretches: list[tuple[str, TraceReport | Phase]] = [("whole window", report)]
    stretches += [(phase.name, phase) for phase in report.phases]
    return [
        (name, each.gpu_busy_ms, {str(cause): ms for cause, ms in each.idle_by_cause_ms.items()})
        for name, each in stretches
        if each.gpu_busy_ms is not None
        and each.gpu_idle_ms is not None
        and svg.is_plain(each.gpu_busy_ms, *each.idle_by_cause_ms.values())
        and each.gpu_busy_ms + sum(each.idle_by_cause_ms.values()) > 0
    ]


def queue_plot(report: TraceReport) -> Plot | None:
    """How much work was queued over the window, a line a device; None where no launch is known."""
    drawn = [queue for queue in report.queues if len(queue.means) > 1 and svg.is_plain(*queue.means)][:6]
    if not drawn or not svg.is_plain(report.window_ms) or report.window_ms <= 0:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for index, queue in enumerate(drawn):
            number = len(queue.means)
            points = [(report.window_ms * (each + 0.5) / number, mean) for each, mean in enumerate(queue.means)]
            label = f"GPU {queue.device}" if len(drawn) > 1 else None
            at_ms, means = zip(*thinned(points), strict=True)
            axes.plot(at_ms, means, color=svg.PARTS[index], label=label, linewidth=1.5, drawstyle="steps-mid")
        axes.set_xlim(0, report.window_ms)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("ms since the window began")
        axes.set_ylabel("launched, not begun")
        axes.grid(axis="y")
        if len(drawn) > 1:
            figure.legend(loc="outside lower left", ncols=6)

    cut = f"; {len(drawn)} of {len(report.queues)} GPUs" if len(drawn) < len(report.queues) else ""
    caption = QUEUE_CAPTION.format(number=len(drawn[0].means), cut=cut)
    return Plot(svg=svg.draw("queue", 2.0, paint), label="Length of the queue", caption=caption)


def rank_plot(ranks: Sequence[RankTrace]) -> Plot | None:
    """What each rank did with its window; None where no rank says it."""
    known = [(each.rank, parts) for each in ranks if (parts := _rank_parts(each.report))]
    drawn = known[:MAX_BARS]
    if not drawn:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for y, (_, parts) in enumerate(drawn):
            _paint_bar(axes, y, [_Piece(ms, colour) for ms, (colour, _) in zip(parts, RANK_PARTS, strict=True)])
        _finish(axes, [f"rank {rank}" for rank, _ in drawn])
        axes.set_xlim(left=0)
        axes.set_xlabel("ms")
        axes.grid(axis="x")
        _legend(figure, RANK_PARTS)

    cut = f" {len(drawn)} of {len(known)} ranks." if len(drawn) < len(known) else ""
    return Plot(
        svg=svg.draw("ranks", 1.0 + 0.3 * len(drawn), paint), label="Ranks side by side", caption=RANKS_CAPTION + cut
    )


def _rank_parts(report: TraceReport) -> tuple[float, ...]:
    exposed = exposed_ms(report)
    if report.gpu_busy_ms is None or exposed is None or not svg.is_plain(report.gpu_busy_ms, exposed):
        return ()
    idle_ms = report.gpu_idle_ms if svg.is_plain(report.gpu_idle_ms) else 0.0
    return max(report.gpu_busy_ms - exposed, 0.0), exposed, idle_ms or 0.0


def _paint_bar(axes: Axes, y: int, pieces: Sequence[_Piece]) -> None:
    left = 0.0
    for piece in pieces:
        if piece.share > 0:
            axes.barh(y, piece.share, left=left, height=BAR, color=piece.colour, linewidth=0)
            left += piece.share


def _finish(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), [svg.short(label) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _legend(figure: Figure, entries: Sequence[tuple[str, str]]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=label) for colour, label in entries]
    figure.legend(handles=handles, loc="outside lower left", ncols=LEGEND_COLUMNS)
