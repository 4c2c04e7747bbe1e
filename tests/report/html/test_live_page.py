"""The one script of a page is small, allowed by its hash alone, and draws the bars that the drawing has."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bagel_perf.records.traces import Lanes
from bagel_perf.report.html import page as page_module
from bagel_perf.report.html.content import MAX_SVG_BYTES, Page, Plot, Section, bounded
from bagel_perf.report.html.page import page_html
from bagel_perf.report.html.timeline_data import UNIT_MS, timeline_data
from bagel_perf.report.html.timeline_plot import MAX_DRAWN, NOTHING, Bar, Strip, coarser, timeline_svg
from bagel_perf.report.html.trace_page import ranks_page, trace_page
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.ranks import compare_ranks
from page_reader import Reader, hash_of
from rank_scenes import four_ranks
from trace_scenes import Scene, two_steps
from trace_stories import trace_of

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = sorted(ROOT.glob("reports/**/report.html"))
SCRIPT = Path(page_module.__file__).with_name("page.js")
MAX_SCRIPT_BYTES, MAX_PAGE_BYTES = 40_000, 3_000_000
REFUSED = ("record it anew", "Left out, of", "Given, and without a timeline")


def unpacked(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def plots_of(page: Page) -> list[Plot]:
    def inside(block: Any) -> list[Plot]:
        return (
            [block]
            if isinstance(block, Plot)
            else [each for one in getattr(block, "blocks", ()) for each in inside(one)]
        )

    return [plot for section in page.sections for plot in inside(section)]


def test_the_policy_allows_the_very_text_of_the_script_and_no_other() -> None:
    reader = Reader(page_html(trace_page(analyse(trace_of(two_steps())))))
    (script,) = reader.running
    assert script == SCRIPT.read_text(encoding="utf-8")
    assert re.findall(r"script-src ([^;]*);", reader.policy) == [hash_of(script)]
    assert "unsafe-inline" not in reader.policy.replace("style-src 'unsafe-inline'", "")


def test_the_script_is_small_and_makes_no_markup_of_words_and_asks_for_nothing() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert len(text.encode()) < MAX_SCRIPT_BYTES
    assert (
        re.findall(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|fetch\(|XMLHttp|import", text
        )
        == []
    )
    assert "</" not in text


def test_numbers_of_bars_are_those_of_the_lanes() -> None:
    lanes = Lanes(
        region="step",
        start_ms=10,
        end_ms=20,
        cpu=((10, 12, ""), (12.5, 20, "")),
        syncs=((11, 11.0005, "nonzero"), (13, 14, "scalar_read")),
        gpu=((15, 16, ""),),
        idle=((10, 15, "host_sync"), (16, 20, "queued")),
        shares={"cpu": (1.0, 0.25)},
    )
    (strip,) = unpacked(
        timeline_data([Strip(variant="a\u202e", lanes=lanes, places=("m.py:1", ""), rows=("r1", ""))], "ms")
    )["strips"]
    data = unpacked(timeline_data([Strip(variant="a", lanes=lanes, places=("m.py:1", ""), rows=("r1", ""))], "ms"))
    assert "\u202e" not in strip["name"], "what turns text around is marked"
    assert strip["length"] * UNIT_MS == pytest.approx(10)
    assert strip["cpu"] == [0, 20_000, 0, 5_000, 75_000, 750]
    assert strip["gpu"] == [50_000, 10_000, 0]
    assert [data["causes"][each][0] for each in strip["idle"][3::4]] == ["c-host_sync", "c-queued"]
    assert strip["syncs"] == [10_000, 5, 0, 0, 0, 19_995, 10_000, 0, 1, -1]
    assert [name for name, _ in data["kinds"]] == ["k-nonzero", "k-scalar_read"] and data["places"] == [
        ["m.py:1", "r1"]
    ]


def test_a_lane_in_which_nothing_happened_says_so() -> None:
    empty = Lanes(region="", start_ms=0, end_ms=1, cpu=(), syncs=(), gpu=((0, 1, ""),), idle=())
    drawn = timeline_svg("t", [Strip(variant="a", lanes=empty)])
    assert [NOTHING[lane] in drawn for lane in ("cpu", "syncs", "gpu", "idle")] == [True, True, False, True]


def test_merged_bars_keep_begin_end_and_filled_time() -> None:
    bars: list[tuple[Bar, str]] = [
        ((3.0 * n, 3.0 * n + 1 + n % 2, "a" if n % 3 else "b", 0.5), "p") for n in range(1000)
    ]
    merged = coarser(bars)
    assert len(merged) == MAX_DRAWN
    assert merged[0][0][0] == 0 and merged[-1][0][1] == bars[-1][0][1]

    def filled(found: list[tuple[Bar, str]]) -> float:
        return sum((end - begin) * share for (begin, end, _, share), _ in found)

    assert filled(merged) == pytest.approx(filled(bars))
    assert coarser(bars[:MAX_DRAWN]) == bars[:MAX_DRAWN]


def test_ranks_stand_on_one_axis_under_their_numbers() -> None:
    page = ranks_page(compare_ranks({rank: analyse(trace_of(scene)) for rank, scene in enumerate(four_ranks())}))
    plot = next(each for each in plots_of(page) if each.label == "All ranks on one axis")
    assert [strip["name"] for strip in unpacked(plot.lanes)["strips"]] == [f"rank {rank}" for rank in range(4)]
    assert all(f"rank {rank}  CPU" in plot.svg for rank in range(4))


def test_devices_of_one_trace_stand_on_one_axis_under_their_numbers() -> None:
    scene = Scene()
    for device in (0, 1):
        scene.kernel((10 + device, 12 + device), (20 + device, 90), stream=7 + device, device=device)
    scene.op("aten::mm", 5, 15)
    report = analyse(trace_of(scene))
    first = next(plot for plot in plots_of(trace_page(report)) if plot.lanes)
    strips = unpacked(first.lanes)["strips"]
    assert [(strip["name"], strip["lanes"]) for strip in strips] == [
        ("GPU 0", ["cpu", "syncs", "gpu", "idle"]),
        ("GPU 1", ["gpu", "idle"]),
    ]
    assert strips[0]["gpu"] and strips[1]["gpu"] and strips[0]["gpu"] != strips[1]["gpu"]


def test_waits_of_a_trace_name_their_rows() -> None:
    report = analyse(trace_of(two_steps()))
    page = trace_page(report)
    rows = {row for plot in plots_of(page) if plot.lanes for _, row in unpacked(plot.lanes)["places"]}
    assert report.sites and rows == {f"wait{number}" for number in range(len(report.sites))}
    ids = set(Reader(page_html(page)).all("id"))
    assert rows <= ids
    lanes = report.lanes[0]
    assert [report.sites[each].kind for each in lanes.sites] == [kind for *_, kind in lanes.syncs]


def test_bars_for_the_script_go_before_a_drawing_does() -> None:
    half = Plot(svg="x" * (MAX_SVG_BYTES // 2), label="", caption="", lanes="y" * (MAX_SVG_BYTES // 2 + 1))
    (section,) = bounded(Section(anchor="a", title="a", blocks=(half,)))
    assert section.blocks == (dataclasses.replace(half, lanes=""),)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_no_lane_of_a_committed_page_is_blank(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [words for words in REFUSED if words in text] == []
    assert path.stat().st_size < MAX_PAGE_BYTES
    figures = re.findall(r"<figure>(?:(?!</figure>).)*lanes-data\">(?:(?!</figure>).)*</figure>", text, flags=re.S)
    blank, silent = [], 0
    for figure in figures:
        data = re.findall(r'class="lanes-data">([^<]*)<', figure)
        for strip in unpacked(data[0])["strips"]:
            blank += [(strip["name"], lane) for lane in strip["lanes"] if lane != "syncs" and not strip[lane]]
            silent += not strip["syncs"]
    assert blank == []
    assert text.count(NOTHING["syncs"]) >= silent, "who does not wait is said not to"


def test_a_committed_page_has_timelines() -> None:
    assert any("lanes-data" in path.read_text(encoding="utf-8") for path in COMMITTED)


def test_a_blank_lane_would_be_seen(tmp_path: Path) -> None:
    lanes = analyse(trace_of(two_steps())).lanes[0]
    packed = timeline_data([Strip(variant="a", lanes=replace(lanes, gpu=(), shares={}))], "ms")
    path = tmp_path / "report.html"
    path.write_text(f'<figure><script class="lanes-data">{packed}</script></figure>', encoding="utf-8")
    with pytest.raises(AssertionError, match="gpu"):
        test_no_lane_of_a_committed_page_is_blank(path)
