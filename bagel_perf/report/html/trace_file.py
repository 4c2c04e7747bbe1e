"""The stretches that a page draws as a file for trace viewers, which the page carries along."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bagel_perf.report.html.content import Link, Links
from bagel_perf.report.html.timeline_plot import Bar, Strip, bars_of, kind_label, waits_of
from bagel_perf.report.trace_tables import CAUSE_LABELS

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
            ("CPU: operators and calls", [(bar, "") for bar in bars_of(lanes, "cpu")]),
            ("CPU: host syncs", waits_of(strip)),
            ("GPU: at work", [(bar, "") for bar in bars_of(lanes, "gpu")]),
            ("GPU: idle, by cause", [(bar, "") for bar in bars_of(lanes, "idle")]),
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
