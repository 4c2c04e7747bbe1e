"""The trace that a page carries holds all that it draws, as trace viewers take it."""

from __future__ import annotations

import gzip
import json
from typing import Any

from msgspec.structs import replace

from bagel_perf.records.traces import Lanes
from bagel_perf.report.html.timeline_plot import Strip
from bagel_perf.report.html.trace_plots import VIEWERS, trace_bytes, trace_links

LANES = Lanes(
    region="step",
    start_ms=10,
    end_ms=20,
    cpu=((10, 14, ""), (15, 20, "")),
    syncs=((12, 13.5, "scalar_read"), (16, 17, "nonzero")),
    gpu=((11, 12, ""),),
    idle=((12, 20, "host_sync"),),
)
STRIPS = {
    "One step": [Strip(variant="a", lanes=LANES, places=("x.py:1 t.item()", "")), Strip(variant="b", lanes=LANES)],
    "One prefill": [Strip(variant="b", lanes=LANES)],
}


def events(kind: str) -> list[dict[str, Any]]:
    data = json.loads(gzip.decompress(trace_bytes(STRIPS)))
    return [event for event in data["traceEvents"] if event["ph"] == kind]


def test_each_drawn_strip_is_a_process_and_each_lane_a_thread() -> None:
    names = [(each["name"], each["args"]["name"]) for each in events("M")]
    processes = [name for kind, name in names if kind == "process_name"]
    assert processes == ["a: One step", "b: One step", "b: One prefill"]
    assert len([name for kind, name in names if kind == "thread_name"]) == 4 * len(processes)


def test_segments_are_complete_events_in_microseconds_from_the_begin_of_the_call() -> None:
    first = [each for each in events("X") if each["pid"] == 1]
    waits = [(each["name"], each["ts"], each["dur"]) for each in first if each["tid"] == 2]
    assert waits == [("scalar read", 2000.0, 1500.0), ("nonzero or unique", 6000.0, 1000.0)]
    assert [each["name"] for each in first if each["tid"] == 4] == ["in a host sync"]
    assert [each["args"] for each in first if "args" in each] == [{"site": "x.py:1 t.item()"}]
    assert len(events("X")) == 3 * 6


def test_what_was_merged_says_how_full_it_is() -> None:
    lanes = replace(LANES, shares={"gpu": (0.25,)})
    data = json.loads(gzip.decompress(trace_bytes({"One step": [Strip(variant="a", lanes=lanes)]})))
    notes = [event["args"] for event in data["traceEvents"] if event["ph"] == "X" and "args" in event]
    assert notes == [{"merged, filled to": "25.0%"}]


def test_a_bar_that_is_drawn_higher_to_be_seen_tells_its_own_share() -> None:
    lanes = replace(LANES, shares={"gpu": (0.001,)})
    data = json.loads(gzip.decompress(trace_bytes({"One step": [Strip(variant="a", lanes=lanes)]})))
    assert [event["args"] for event in data["traceEvents"] if event["ph"] == "X" and "args" in event] == [
        {"merged, filled to": "0.1%"}
    ]


def test_events_of_a_thread_do_not_overlap() -> None:
    """Perfetto drops those that do."""
    ends: dict[tuple[int, int], float] = {}
    for event in events("X"):
        thread = event["pid"], event["tid"]
        assert event["ts"] >= ends.get(thread, 0.0)
        ends[thread] = event["ts"] + event["dur"]


def test_the_file_is_the_same_each_time_and_lies_in_the_link() -> None:
    assert trace_bytes(STRIPS) == trace_bytes(STRIPS)
    file, *viewers = trace_links(STRIPS).links
    assert file.href.startswith("data:application/gzip;base64,") and file.download is not None
    assert [link.href for link in viewers] == list(VIEWERS.values())
