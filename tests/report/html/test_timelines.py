"""Profiled runs of syncs beside a result become timelines, tables of their regions and lines with their times."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.commands.report import run_report
from bagel_perf.records.results import load
from bagel_perf.records.syncs import Instrument, SyncReport
from bagel_perf.records.traces import MAX_SEGMENTS, Lanes
from bagel_perf.report.html.content import Fold, Heading, TableBlock, Text
from bagel_perf.report.html.inputs import read_inputs
from bagel_perf.report.html.page import page_html
from bagel_perf.report.html.profiles import ordered
from bagel_perf.report.html.sites import sites_section
from bagel_perf.report.html.timeline import timeline_section
from bagel_perf.report.html.timeline_plot import Strip, is_drawn_whole, timeline_svg
from bagel_perf.report.html.trace_page import other_page, other_sections
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats.reading import read_trace

ROOT = Path(__file__).resolve().parents[3]
REPORTS = ROOT / "reports"
TRACE = REPORTS.parent / "tests" / "data" / "traces" / "torch211_h100.json.gz"
RESULT = REPORTS / "2026-11-26_h200_5841467" / "result.json"


@pytest.fixture(scope="module")
def watched() -> SyncReport:
    """A committed report of syncs, with the profile of a committed trace."""
    trace = analyse(read_trace(REPORTS / "syncs-h100" / "pr3987_t2i.json.gz"))
    data = json.loads((REPORTS / "syncs-h100" / "pr3987-256.json").read_text(encoding="utf-8"))
    return replace(SyncReport.from_json(data), profile=trace)


def lanes(*waits: tuple[float, float, str]) -> Lanes:
    return Lanes(region="step", start_ms=10, end_ms=20, cpu=((10, 20, ""),), syncs=waits, gpu=(), idle=())


def test_the_page_has_a_timeline_of_each_profiled_run(watched: SyncReport, tmp_path: Path) -> None:
    path = tmp_path / "pr3987.json"
    path.write_text(json.dumps(watched.to_json()), encoding="utf-8")
    run_report([RESULT, path], tmp_path / "page", None, quiet=True)
    page = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert "One denoise step" in page and "One prefill" in page
    assert "One denoise step" in (tmp_path / "page" / "summary.md").read_text(encoding="utf-8")
    assert "No profile was given" not in page


def test_without_a_profile_the_page_says_how_to_make_one() -> None:
    section = timeline_section(load(RESULT), ())
    assert "bagel-perf syncs --variant baseline" in str(section)


def test_a_report_without_a_profile_is_no_timeline_but_has_a_section_of_its_own() -> None:
    inputs = read_inputs([RESULT, REPORTS / "syncs-h100" / "pr3987-256.json"])
    assert (inputs.profiles, len(inputs.syncs)) == ((), 1)
    (section,) = other_sections(inputs.syncs, inputs.traces)
    assert section.title == "Host syncs of pr3987 at 256x256" and "positions.py" in str(section)


def test_reports_and_traces_alone_make_a_page(watched: SyncReport, tmp_path: Path) -> None:
    path = tmp_path / "pr3987.json"
    path.write_text(json.dumps(watched.to_json()), encoding="utf-8")
    inputs = read_inputs([path, TRACE])
    page = other_page(inputs.syncs, inputs.traces)
    assert inputs.results == () and page.subtitle == "1 report of host syncs and 1 trace; nothing was compared"
    assert [section.anchor for section in page.sections][:2] == ["answer", "waits0"]
    assert "<script>" not in page_html(page)


def test_a_gzipped_profile_is_read(watched: SyncReport, tmp_path: Path) -> None:
    path = tmp_path / "pr3987.json.gz"
    path.write_bytes(gzip.compress(json.dumps(watched.to_json()).encode()))
    inputs = read_inputs([RESULT, path])
    results, reports = inputs.results, inputs.profiles
    assert (results, reports) == ((RESULT,), (watched,))


@pytest.mark.usefixtures("undrawn")
def test_one_sentence_is_open_above_the_drawings_and_says_where_a_run_is_of_something_else(watched: SyncReport) -> None:
    cost = Instrument(wait_us=60, call_us=15, plain_wait_us=9, plain_wall_ms=1310, watched_wall_ms=4014)
    for subject, is_foreign in (("pr3987 at 256x256", False), ("nobody at 256x256", True)):
        known = load(RESULT)
        own = replace(known, environment=replace(known.environment, device_name=watched_device(watched)))
        first, about, *_ = timeline_section(own, [replace(watched, subject=subject, instrument=cost)]).blocks
        assert isinstance(first, Text) and first.text.endswith("of what this result is of.") == is_foreign
        assert isinstance(about, Fold) and about.summary == "About these profiled runs"
        assert ("Not of this result: nobody" in str(about)) == is_foreign


def watched_device(report: SyncReport) -> str:
    assert report.profile is not None
    return report.profile.devices[0].name


@pytest.mark.usefixtures("undrawn")
def test_what_profiling_costs_stands_before_the_drawings(watched: SyncReport) -> None:
    cost = Instrument(wait_us=60, call_us=15, plain_wait_us=9, plain_wall_ms=1310, watched_wall_ms=4014)
    text = str(timeline_section(load(RESULT), [replace(watched, instrument=cost)]))
    assert "4014 ms profiled, 1310 ms without" in text


def test_a_wait_of_a_microsecond_is_drawn_and_named() -> None:
    drawn = timeline_svg("t", [Strip(variant="baseline", lanes=lanes((12.0, 12.001, "scalar_read")))])
    assert "wait: scalar read" in drawn
    assert drawn.count("<path") > timeline_svg("t", [Strip(variant="baseline", lanes=lanes())]).count("<path")


def test_a_merged_segment_is_as_high_as_it_is_full() -> None:
    def height(share: float | None) -> float:
        """Of the only bar, in points."""
        whole = replace(lanes(), cpu=(), gpu=((12, 14, ""),), shares={} if share is None else {"gpu": (share,)})
        drawn = timeline_svg("t", [Strip(variant="baseline", lanes=whole)])
        bars = re.findall(r'd="M[\d.]+ ([\d.]+)H[\d.]+V([\d.]+)H[\d.]+z" [^>]*style="fill: var\(--l-gpu\)', drawn)
        return max(float(low) - float(high) for low, high in bars)

    assert height(None) == height(1.0)
    assert height(0.5) == pytest.approx(height(1.0) / 2, rel=0.01)
    assert height(0.0) > 0.5, "still seen"


def test_a_wait_names_its_line_to_the_pointer() -> None:
    waits = lanes((12.0, 12.5, "scalar_read"), (14.0, 14.5, "scalar_read"), (16.0, 16.5, "nonzero"))
    drawn = timeline_svg("t", [Strip(variant="baseline", lanes=waits, places=("a.py:1", "a.py:1", ""))])
    assert re.findall("<title>(.*?)</title>", drawn) == ["scalar read: a.py:1"]


def test_the_line_of_a_wait_comes_with_what_all_waits_there_took(watched: SyncReport) -> None:
    site = replace(watched.sites[0], file="m.py", line=7, expressions=("x.item()",), blocked_ms=1.25)
    step = replace(lanes((12.0, 12.5, "scalar_read"), (14.0, 14.5, "scalar_read")), places=(0, -1))
    assert watched.profile is not None
    profile = replace(watched.profile, lanes=(step,))
    report = replace(watched, sites=(site, *watched.sites[1:]), profile=profile)
    section = str(timeline_section(load(RESULT), [report]))
    assert f"m.py:7 x.item(); {site.count} times in the whole run, host blocked 1.2 ms" in section
    assert "The pointer on a wait shows its line" in section
    assert "The pointer on a wait" not in str(timeline_section(load(RESULT), [watched]))


def test_runs_stand_by_resolution_and_as_the_result_has_its_variants(watched: SyncReport) -> None:
    names = ["sync_free at 1024x1024", "python x.py", "sync_free at 256x256", "baseline at 256x256", "new at 256x256"]
    reports = [replace(watched, subject=name) for name in names]
    found = [report.subject for report in ordered(reports, load(RESULT))]
    assert found == [names[3], names[2], names[4], names[0], names[1]]


@pytest.mark.usefixtures("undrawn")
def test_each_resolution_has_its_own_time_axis(watched: SyncReport) -> None:
    reports = [replace(watched, subject=f"pr3987 at {size}") for size in ("256x256", "1024x1024")]
    blocks = timeline_section(load(RESULT), reports).blocks
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    assert "One denoise step at 256x256" in headings and "One denoise step at 1024x1024" in headings
    assert headings[-1] == "The same in a trace viewer"


@pytest.mark.usefixtures("undrawn")
def test_what_was_not_profiled_or_is_not_of_the_result_is_said(watched: SyncReport) -> None:
    subjects = ("sync_free at 256x256", "zork at 256x256", "baseline at 1024x1024")
    reports = [replace(watched, subject=name) for name in subjects]
    texts = str(timeline_section(load(RESULT), reports))
    assert "Not of this result: zork at 256x256, baseline at 1024x1024." in texts
    assert "Not profiled: baseline at 256x256, captured at 256x256, fused at 256x256, pr3987 at 256x256." in texts
    assert "Profiled on another device than NVIDIA H200: NVIDIA H100 80GB HBM3." in texts


@pytest.mark.usefixtures("undrawn")
def test_merged_bars_that_do_not_say_how_full_they_are_are_left_out(watched: SyncReport) -> None:
    assert watched.profile is not None
    many = tuple((10 + i / 100, 10 + i / 100 + 0.005, "") for i in range(MAX_SEGMENTS))
    step = replace(lanes(), gpu=many)
    for shares, said in (({}, True), ({"gpu": (1.0,) * MAX_SEGMENTS}, False)):
        profile = replace(watched.profile, lanes=(replace(step, shares=shares),))
        section = timeline_section(load(RESULT), [replace(watched, profile=profile)])
        assert ("lanes of many merged bars whose profile does not say how full they are" in str(section)) is said


def test_a_profile_without_a_timeline_is_said_to_have_none(watched: SyncReport) -> None:
    assert watched.profile is not None
    empty = replace(watched, profile=replace(watched.profile, lanes=()))
    assert f"Given, and without a timeline: {watched.subject}; record it anew." in str(
        timeline_section(load(RESULT), [empty])
    )


def test_lanes_that_were_merged_are_known_by_their_number(watched: SyncReport) -> None:
    assert watched.profile is not None
    merged = next(each for each in watched.profile.lanes if len(each.gpu) == MAX_SEGMENTS)
    assert is_drawn_whole(merged)
    assert not is_drawn_whole(replace(merged, shares={}))


@pytest.mark.usefixtures("undrawn")
def test_lines_have_the_times_of_a_profile_where_there_is_one(watched: SyncReport) -> None:
    result = load(REPORTS / "2026-11-27_h200_f8d4ee8" / "result.json")
    section = sites_section(result, [replace(watched, subject="pr3987 at 256x256")])
    found = [block for each in section.blocks for block in getattr(each, "blocks", (each,))]
    timed = {
        block.table.title: "idle caused (ms)" in {column.header for column in block.table.columns}
        for block in found
        if isinstance(block, TableBlock)
    }
    assert timed[f"pr3987 at 256x256: {watched.host_syncs} host syncs"]
    assert not timed["baseline at 1024x1024: 79557 host syncs"]


def test_a_kind_of_another_version_is_drawn_by_its_own_name() -> None:
    assert "wait: teleport" in timeline_svg("t", [Strip(variant="baseline", lanes=lanes((12.0, 13.0, "teleport")))])


def test_profiles_from_before_causes_were_split_are_drawn_and_named() -> None:
    paths = sorted((ROOT / "tests" / "data" / "profiles").iterdir())
    reports = [SyncReport.from_json(json.loads(gzip.decompress(path.read_bytes()))) for path in paths]
    blocks = timeline_section(load(RESULT), reports).blocks
    assert "Of baseline at 256x256, fused at 256x256, recorded before idle time was split by cause" in str(blocks)
    headers = {column.header for block in blocks if isinstance(block, TableBlock) for column in block.table.columns}
    assert {"idle: restart after a sync (ms)", "idle: launch-bound (ms)"} <= headers
    assert "idle: data loader (ms)" not in headers, "it does not occur"


@pytest.mark.usefixtures("undrawn")
def test_new_profiles_are_not_taken_for_old_ones(watched: SyncReport) -> None:
    assert "recorded before idle time was split" not in str(timeline_section(load(RESULT), [watched]))
