"""The bars of a timeline as numbers for the page's script, which draws them at any zoom.

The form is what ``page.js`` reads: JSON, gzipped, in base64. Of each lane there is one list of whole numbers, in units
of ``UNIT_MS``. A bar is the distance of its begin from the end of the one before, its length, and how much of it is not
filled in thousandths; after that the number of its label where the lane has labels, and the number of its place where
it is a wait (-1: not known).
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence

from bagel_perf.records.errors import clean_text
from bagel_perf.records.traces import CAUSES
from bagel_perf.report.html.colours import cause_name, kind_name
from bagel_perf.report.html.timeline_plot import HEIGHTS, LANE_HEIGHT, Strip, bars_of, kind_label, waits_of
from bagel_perf.report.trace_tables import CAUSE_LABELS

UNIT_MS = 1e-4


def timeline_data(strips: Sequence[Strip], axis: str) -> str:
    """All strips of one drawing, which share an axis; the same strips give the same text."""
    kinds = sorted({kind for strip in strips for *_, kind in strip.lanes.syncs})
    causes = [cause for cause in CAUSES if any(cause == name for strip in strips for *_, name in strip.lanes.idle)]
    places = list(dict.fromkeys((place, row) for strip in strips for place, row in _places(strip) if place))
    data = {
        "axis": clean_text(axis),
        "unit": UNIT_MS,
        "kinds": [[kind_name(kind), clean_text(kind_label(kind))] for kind in kinds],
        "causes": [
            [cause_name(cause), CAUSE_LABELS[cause], HEIGHTS.get(cause, (LANE_HEIGHT, ""))[0] / LANE_HEIGHT]
            for cause in causes
        ],
        "places": [[clean_text(place), row] for place, row in places],
        "strips": [
            {
                "name": clean_text(strip.variant),
                "colour": strip.colour,
                "lanes": list(strip.names),
                "length": round((strip.lanes.end_ms - strip.lanes.start_ms) / UNIT_MS),
                "cpu": _numbers(strip, "cpu"),
                "syncs": _waits(strip, kinds, places),
                "gpu": _numbers(strip, "gpu"),
                "idle": _numbers(strip, "idle", causes),
            }
            for strip in strips
        ],
    }
    text = json.dumps(data, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii")


def _places(strip: Strip) -> list[tuple[str, str]]:
    """What is said of each wait, and the row of its line, "" for what is not known."""
    rows = strip.rows or ("",) * len(strip.places)
    return list(zip(strip.places, rows, strict=True))


def _numbers(strip: Strip, lane: str, labels: Sequence[str] = ()) -> list[int]:
    numbers: list[int] = []
    at = 0
    for begin_ms, end_ms, label, share in bars_of(strip.lanes, lane):
        begin, end = (round((each - strip.lanes.start_ms) / UNIT_MS) for each in (begin_ms, end_ms))
        numbers += [begin - at, end - begin, round(1000 * (1 - share))]
        numbers += [labels.index(label)] if labels else []
        at = end
    return numbers


def _waits(strip: Strip, kinds: Sequence[str], places: Sequence[tuple[str, str]]) -> list[int]:
    numbers = _numbers(strip, "syncs", kinds)
    known = {place: number for number, place in enumerate(places)}
    found = _places(strip) or [("", "")] * len(waits_of(strip))
    return [
        number
        for index, place in enumerate(found[: len(numbers) // 4])
        for number in (*numbers[4 * index : 4 * index + 4], known.get(place, -1))
    ]
