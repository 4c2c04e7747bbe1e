"""Two reports are compared by file, function, kind and text; what one of them did not see is unknown, never gone."""

from __future__ import annotations

import io
from typing import Any

import pytest

from bagel_perf.records.sites import SyncSite, UnjudgedSite
from bagel_perf.records.syncs import Process, SyncDifference, SyncReport, Witnesses
from bagel_perf.report.sync_tables import print_changes
from bagel_perf.verdicts.counts import Side, difference

UNJUDGED: dict[str, Any] = {"unjudged": {"mine.op": 2}}


def site(line: int, count: int, text: str = "x.item()", file: str = "loop.py", function: str = "run") -> SyncSite:
    return SyncSite(
        kind="scalar_read", file=file, line=line, function=function, region="", count=count, expressions=(text,)
    )


def report(*sites: SyncSite, **rest: Any) -> SyncReport:
    total = sum(each.count for each in sites)
    witnesses = Witnesses(simulated=total)
    return SyncReport(
        device="simulated", host_syncs=total, unexplained=0, sites=sites, witnesses=witnesses, subject="s", **rest
    )


def changes(before: SyncReport, after: SyncReport) -> list[tuple[str, str, int | None, int | None]]:
    found = difference(Side(report=before), Side(report=after)).changes
    return [(each.change, each.expressions[0], each.count_before, each.count_after) for each in found]


def test_lines_may_move_and_counts_may_not() -> None:
    before = report(site(3, 5), site(9, 1, "a.item()"), site(10, 4, "b.item()"), site(11, 2, "c.item()"))
    after = report(site(30, 5), site(31, 1, "b.item()"), site(32, 7, "c.item()"), site(33, 6, "d.item()"))
    assert changes(before, after) == [
        ("new", "d.item()", 0, 6),
        ("more", "c.item()", 2, 7),
        ("gone", "a.item()", 1, 0),
        ("fewer", "b.item()", 4, 1),
    ]
    found = difference(Side(report=before), Side(report=after))
    assert (found.num_same, found.host_syncs_same) == (1, 5)
    assert (found.host_syncs_before, found.host_syncs_after) == (12, 19)
    assert SyncDifference.from_json(found.to_json()) == found


def test_places_of_one_text_are_taken_together() -> None:
    assert changes(report(site(3, 2), site(7, 3)), report(site(5, 5))) == []


@pytest.mark.parametrize(
    "rest",
    [
        UNJUDGED,
        {**UNJUDGED, "unjudged_sites": (UnjudgedSite(operator="mine.op", file="loop.py", line=1, region="", count=2),)},
        {"processes": (Process(name="worker"),)},
        {"exit_code": 1},
        {"signal": "SIGKILL"},
        {"used_device": False},
        {"untested": ("torch 9",)},
    ],
)
def test_what_was_not_seen_is_unknown_and_what_was_seen_is_there(rest: dict[str, Any]) -> None:
    closed, opened = report(site(3, 5)), report(**rest)
    assert changes(closed, opened) == [("unknown", "x.item()", 5, None)]
    assert changes(opened, closed) == [("unknown", "x.item()", None, 5)]
    if "used_device" not in rest:
        more = report(site(3, 7), **rest)
        assert changes(closed, more) == [("more", "x.item()", 5, 7)], "an open count is one that is at least so high"
        assert changes(more, closed) == [("fewer", "x.item()", 7, 5)]
    found = difference(Side(report=closed), Side(report=opened))
    assert (found.host_syncs_before, found.host_syncs_after) == (5, None)


def test_an_operator_that_nobody_can_judge_makes_its_own_file_unknown() -> None:
    elsewhere = (UnjudgedSite(operator="mine.op", file="other.py", line=1, region="", count=2),)
    assert changes(report(site(3, 5)), report(**UNJUDGED, unjudged_sites=elsewhere)) == [("gone", "x.item()", 5, 0)]


def test_what_was_named_stands_for_each_other() -> None:
    before = Side(
        report=report(site(3, 5, function="plain.<locals>.f")), files={"loop.py": "F"}, functions={"plain": "N"}
    )
    after = Side(
        report=report(site(3, 5, file="new.py", function="fast.<locals>.f")),
        files={"new.py": "F"},
        functions={"fast": "N"},
    )
    assert difference(before, after).changes == ()


def test_the_table_says_what_changed_and_what_is_unknown_and_is_inert() -> None:
    stream = io.StringIO()
    before = report(site(3, 5), site(4, 2, "y.item()  \x1b[31m"), site(5, 1, "z.item()"))
    found = difference(Side(report=before), Side(report=report(site(3, 1), **UNJUDGED)))
    print_changes(found, stream, top=2)
    text = stream.getvalue()
    assert "unknown  5 -> unknown  loop.py:3 run  scalar read" in text and "1 place more (--top)" in text
    assert "unknown: s: nobody can judge mine.op" in text and "host syncs: 8 -> unknown" in text
    assert "\x1b" not in text
    print_changes(difference(Side(report=before), Side(report=before)), stream, top=2)
    assert "- the same waits at the same places" in stream.getvalue()
