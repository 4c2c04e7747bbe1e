"""The page of a trace, or of several ranks, answers first, draws what was found, and runs and loads nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.records.traces import CAUSES, TraceReport
from bagel_perf.report.html import svg
from bagel_perf.report.html.content import Badge, Badges, Cards, Culprit, Fold, Page, Plot, TableBlock
from bagel_perf.report.html.page import page_html
from bagel_perf.report.html.timeline_plot import HEIGHTS, IDLE_COLOURS, LANE_HEIGHT
from bagel_perf.report.html.trace_answer import answer, answer_section
from bagel_perf.report.html.trace_page import ranks_page, trace_page
from bagel_perf.report.trace_tables import CAUSE_LABELS
from bagel_perf.traces.against import difference
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats.reading import read_trace
from bagel_perf.traces.ranks import compare_ranks
from page_reader import Reader, hash_of
from rank_scenes import four_ranks
from trace_scenes import Scene, two_steps
from trace_stories import trace_of

TRACES = Path(__file__).resolve().parents[2] / "data" / "traces"
CSS = Path(svg.__file__).with_name("page.css")
ANCHORS = ["answer", "syncs", "idle", "timeline", "regions", "gaps", "phases", "streams", "kernels", "notes"]
MAX_BYTES = 3_000_000


def report_of(scene: Scene) -> TraceReport:
    return analyse(trace_of(scene))


def of_ranks() -> Page:
    return ranks_page(compare_ranks({rank: report_of(scene) for rank, scene in enumerate(four_ranks())}))


def blocks_of(page: Page, kind: type) -> list[object]:
    blocks = [block for section in page.sections for block in section.blocks]
    folded = [inner for block in blocks if isinstance(block, Fold) for inner in block.blocks]
    return [block for block in (*blocks, *folded) if isinstance(block, kind)]


@pytest.fixture(scope="module", params=sorted(TRACES.glob("*.json.gz")), ids=lambda path: path.name)
def recorded(request: pytest.FixtureRequest) -> TraceReport:
    return analyse(read_trace(request.param))


def test_a_page_of_any_recorded_trace_runs_nothing_and_loads_nothing(recorded: TraceReport) -> None:
    page = trace_page(recorded)
    text = page_html(page)
    assert [section.anchor for section in page.sections] == ANCHORS
    assert len(text.encode()) < MAX_BYTES
    reader = Reader(text)
    (script,) = reader.running
    assert f"script-src {hash_of(script)};" in reader.policy
    assert not reader.tags.keys() & {"link", "iframe", "object", "embed", "form", "base", "image", "img"}
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert all(
        re.match("#|data:application/gzip|https://(ui.perfetto|www.speedscope)", each) for each in reader.all("href")
    )


@pytest.mark.usefixtures("undrawn")
def test_warnings_stand_before_any_figure() -> None:
    report = replace(report_of(two_steps()), warnings=("rows were lost",))
    section = trace_page(report).sections[0]
    assert section.heading == answer(report)
    first, second, *_ = section.blocks
    assert isinstance(first, Badges) and first.badges[0] == Badge(text="rows were lost", tone="bad")
    assert isinstance(second, Cards)


def test_the_answer_is_one_sentence_with_shares_and_the_culprit() -> None:
    report = analyse(read_trace(TRACES / "torch211_h100_stacks.json.gz"))
    assert answer(report) == "The GPU was idle for 92% of 12.2 ms, most of it while the CPU did other things."
    assert answer(replace(report, gpu_idle_ms=None)).endswith("; how long idle is unknown.")
    assert answer(replace(report, gpu_busy_ms=None)) == "The trace does not tell what the GPU did."
    busy = answer(replace(report, gpu_busy_ms=12.0, gpu_idle_ms=0.2))
    assert busy == "The GPU was at work for 98% of 12.2 ms, so the host does not hold it up."
    (culprit,) = [block for block in answer_section(report).blocks if isinstance(block, Culprit)]
    assert culprit.place == "traces.py(14): loop > randn: aten::randn > aten::normal_"
    assert culprit.text.startswith("The GPU was idle for 2.94 ms in 1 gap meanwhile")


def test_a_trace_whose_idle_time_is_of_waits_blames_the_wait_that_costs_most() -> None:
    report = analyse(read_trace(TRACES / "torch211_h100_stacks.json.gz"))
    waiting = replace(report, idle_by_cause_ms={"host_sync": 9.0, "after_sync": 1.0})
    (culprit,) = [block for block in answer_section(waiting).blocks if isinstance(block, Culprit)]
    assert culprit.title == "The wait that costs most" and "Taking them out should save" in culprit.text
    rows = {row_id for block in blocks_of(trace_page(waiting), TableBlock) for row_id in block.row_ids}  # type: ignore[attr-defined]
    assert culprit.href in rows
    assert answer(waiting) == "The GPU was idle for 92% of 12.2 ms, most of it while the host was held in waits."


def test_what_is_unknown_is_said_in_words() -> None:
    scene = two_steps()
    scene.works.clear()
    text = page_html(trace_page(report_of(scene)))
    assert "The trace does not tell what the GPU did." in text
    assert "Why the GPU was idle is unknown" in text
    scene = two_steps()
    scene.calls.clear()
    scene.syncs.clear()
    assert "Host syncs are unknown" in page_html(trace_page(report_of(scene)))


def test_causes_and_queue_are_drawn_and_the_timeline_has_the_whole_window_first() -> None:
    labels = [block.label for block in blocks_of(trace_page(report_of(two_steps())), Plot)]  # type: ignore[attr-defined]
    assert labels[0] == "Why the GPU was idle"
    assert labels[1] == "The whole window"
    assert labels[-1] == "Length of the queue"
    assert any(label.startswith("ProfilerStep > forward") for label in labels)


@pytest.mark.usefixtures("undrawn")
def test_a_long_table_is_folded_after_its_first_rows() -> None:
    report = report_of(two_steps())
    many = replace(report, kernels=tuple(replace(report.kernels[0], name=f"k{i}") for i in range(50)))
    kernels = next(section for section in trace_page(many).sections if section.anchor == "kernels")
    shown = [block.table for block in kernels.blocks if isinstance(block, TableBlock)]
    (rest,) = [block for block in kernels.blocks if isinstance(block, Fold)]
    assert len(shown[-1].rows) == 10 and shown[-1].caption == "40 of 50"
    assert rest.summary == "Kernels: 30 rows more"
    everything = next(section for section in trace_page(many, top=50).sections if section.anchor == "kernels")
    (rest,) = [block for block in everything.blocks if isinstance(block, Fold)]
    assert rest.summary == "Kernels: 40 rows more"


@pytest.mark.usefixtures("undrawn")
def test_differences_stand_after_the_answer() -> None:
    report = report_of(two_steps())
    changed = replace(report, difference=difference(report, report))
    assert [section.anchor for section in trace_page(changed).sections][:2] == ["answer", "changes"]


def test_ranks_stand_after_the_answer_and_the_late_one_is_shown_in_full() -> None:
    page = of_ranks()
    assert [section.anchor for section in page.sections] == ["answer", "ranks", *ANCHORS[1:]]
    assert page.sections[3].title == "Why the GPU was idle (rank 2)"
    assert page.sections[0].heading.startswith(
        "Rank 2 was last in 3 of 3 steady steps; the others waited 0.90 ms for it"
    )


@pytest.mark.usefixtures("undrawn")
def test_the_figures_are_in_the_page_as_json() -> None:
    for page, schema in ((trace_page(report_of(two_steps())), "bagel-perf.trace"), (of_ranks(), "bagel-perf.ranks")):
        assert json.loads(page.data_json)["schema"] == schema
    data = json.loads(of_ranks().data_json)
    assert [each["report"] is not None for each in data["ranks"]] == [False, False, True, False]


def test_each_cause_has_a_label_and_looks_of_its_own() -> None:
    assert set(CAUSE_LABELS) == set(IDLE_COLOURS) == set(CAUSES)
    looks = {(colour, HEIGHTS.get(cause, (LANE_HEIGHT, ""))[0]) for cause, colour in IDLE_COLOURS.items()}
    assert len(looks) == len({*IDLE_COLOURS.values()}) == len(CAUSES)
