"""A report of syncs alone has an answer: how often, where most, whether budgets held, and what is open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bagel_perf.records.sites import SyncSite
from bagel_perf.records.syncs import BudgetCheck, SyncReport, Witnesses
from bagel_perf.report.html.content import Badges, Bars, Culprit, Section, TableBlock, Text
from bagel_perf.report.html.inputs import read_inputs
from bagel_perf.report.html.page import page_html
from bagel_perf.report.html.trace_page import other_page
from bagel_perf.report.html.waits import waits_answer

READ = SyncSite(
    kind="scalar_read", file="loop.py", line=19, function="f", region="", count=7, expressions=("t.item()",)
)
UPLOAD = SyncSite(kind="pageable_upload", file="loop.py", line=21, function="f", region="", count=3)
REPORT = SyncReport(
    device="simulated",
    host_syncs=10,
    unexplained=0,
    sites=(READ, UPLOAD),
    witnesses=Witnesses(simulated=10),
    subject="plain",
    used_device=True,
)
H100 = Path(__file__).resolve().parents[3] / "reports" / "syncs-h100"


def of_kind(section: Section, kind: type) -> list[Any]:
    return [block for block in section.blocks if isinstance(block, kind)]


def badges(report: SyncReport) -> dict[str, str]:
    (found,) = of_kind(waits_answer(report), Badges)
    return {badge.text: badge.tone for badge in found.badges}


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (REPORT, "plain waits 10 times for the GPU; the most at loop.py:19."),
        (replace(REPORT, sites=(UPLOAD,), host_syncs=3), "plain waits 3 times for the GPU, always at loop.py:21."),
        (
            replace(REPORT, sites=(replace(READ, count=1),), host_syncs=1),
            "plain waits 1 time for the GPU, at loop.py:19.",
        ),
        (replace(REPORT, sites=(), host_syncs=0, subject=""), "The program never waits for the GPU."),
        (
            replace(REPORT, sites=(), host_syncs=0, used_device=False),
            "Nothing of plain ran on the device, so nothing is known of its waits.",
        ),
        (
            replace(REPORT, sites=(replace(READ, is_setup=True),), host_syncs=7),
            "plain waits 7 times for the GPU, always while it sets up.",
        ),
    ],
)
def test_a_report_has_its_sentence(report: SyncReport, expected: str) -> None:
    page = other_page([report], [])
    assert page.sections[0].heading == expected
    assert page_html(page).count("<h1") == 1


def test_the_lines_are_bars_in_the_colours_of_their_kinds_and_one_is_the_culprit() -> None:
    (bars,) = of_kind(waits_answer(REPORT), Bars)
    assert [(bar.name, bar.value, bar.parts[0].colour) for bar in bars.bars] == [
        ("loop.py:19", "7", "k-scalar_read"),
        ("loop.py:21", "3", "k-pageable_upload"),
    ]
    (culprit,) = of_kind(waits_answer(REPORT), Culprit)
    assert (culprit.place, culprit.code) == ("loop.py:19", "t.item()")
    assert culprit.text == "7 waits in one run, each of them a scalar read."
    tables = of_kind(other_page([REPORT], []).sections[1], TableBlock)
    assert any(culprit.href in block.row_ids for block in tables)


def test_what_is_allowed_is_no_culprit() -> None:
    allowed = replace(REPORT, sites=(replace(READ, allowed="the end of the loop"), UPLOAD))
    (culprit,) = of_kind(waits_answer(allowed), Culprit)
    assert culprit.place == "loop.py:21"
    nothing = replace(REPORT, sites=(replace(READ, allowed="the end of the loop"),), host_syncs=7)
    assert of_kind(waits_answer(nothing), Culprit) == []
    assert of_kind(waits_answer(nothing), Text)[0].text.startswith("Next: Nothing waits that is not allowed")


def test_budgets_and_what_is_open_are_badges() -> None:
    kept = BudgetCheck(region="", limit=12, num_entries=1, worst=10, num_exceeded=0)
    over = BudgetCheck(region="step", limit=2, num_entries=3, worst=4, num_exceeded=1)
    never = BudgetCheck(region="loop", limit=2, num_entries=0, worst=0, num_exceeded=0)
    found = badges(replace(REPORT, budgets=(kept, over, never)))
    assert found["budget kept: 10 of 12 spent"] == "good"
    assert found["budget of step exceeded: 4 waits, 2 allowed"] == "bad"
    assert found["budget of loop: the region was never entered"] == "bad"
    assert found["counted on a simulated device"] == "doubt"
    unjudged = badges(replace(REPORT, budgets=(kept,), unjudged={"aten::odd": 3}))
    assert unjudged["budget open: 10 of 12 spent so far as was counted"] == "doubt"
    assert unjudged["1 operator cannot be judged without a GPU"] == "doubt"


def test_several_programs_are_told_together() -> None:
    reports = read_inputs(sorted(H100.glob("*-256.json"))).syncs
    section = other_page(reports, []).sections[0]
    assert section.heading == (
        "baseline at 256x256 waits 18,117 times, pr3987 at 256x256 waits 2,409 times and sync_free at 256x256 waits "
        "1 time."
    )
    (bars,) = of_kind(section, Bars)
    assert [bar.value for bar in bars.bars] == ["18,117 waits", "2,409 waits", "1 wait"]
