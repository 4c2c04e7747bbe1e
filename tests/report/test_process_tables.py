"""What people read of several processes: sums of alike ones, a row for each, and those that nobody watched."""

from __future__ import annotations

import io
from typing import Any

from bagel_perf.records.sites import SyncSite
from bagel_perf.records.syncs import Process, SyncReport, Witnesses
from bagel_perf.report.html.trace_page import other_page
from bagel_perf.report.process_tables import process_table
from bagel_perf.report.sync_tables import print_syncs


def site(process: str, count: int, **rest: Any) -> SyncSite:
    return SyncSite(
        kind="scalar_read", file="a.py", line=3, function="f", region="", count=count, process=process, **rest
    )


PROCESSES = (
    Process(name="main", pid=1, watched=True, host_syncs=0, used_device=False),
    Process(name="rank 0", pid=2, watched=True, host_syncs=5, used_device=True),
    Process(name="rank 1", pid=3, watched=True, host_syncs=4, used_device=True, why="it was killed"),
    Process(name="./native", pid=4, why="it is no Python"),
)
REPORT = SyncReport(
    device="simulated",
    host_syncs=9,
    unexplained=0,
    sites=(site("rank 0", 5), site("rank 1", 2), site("rank 1", 2, phase="warm-up")),
    witnesses=Witnesses(simulated=9),
    subject="train.py",
    processes=PROCESSES,
    used_device=True,
)


def text_of(*, apart: bool) -> str:
    stream = io.StringIO()
    print_syncs(REPORT, stream, top=9, apart=apart)
    return stream.getvalue()


def test_sites_of_alike_processes_are_summed_unless_they_are_to_be_apart() -> None:
    summed, apart = text_of(apart=False), text_of(apart=True)
    assert "    7  a.py:3  scalar read" in summed and "of rank *" in summed
    assert "    5  a.py:3  scalar read" in apart and "of rank 0" in apart and "of rank *" not in apart
    assert "warm-up: held to no budget" in summed
    assert "next: a.py:3, 7 x scalar read" in summed


def test_each_process_that_may_have_used_the_device_has_a_row() -> None:
    table = process_table(REPORT)
    assert table is not None and table.caption == "1 more did not use the device"
    assert table.rows == (
        ("5", "2", "rank 0"),
        ("4", "3", "rank 1\n  it was killed"),
        ("unknown", "4", "./native  NOT WATCHED\n  it is no Python"),
    )
    assert "- not watched, and its waits not in the counts: ./native" in text_of(apart=False)


def test_one_process_has_no_table() -> None:
    alone = SyncReport(
        device="simulated",
        host_syncs=0,
        unexplained=0,
        sites=(),
        witnesses=Witnesses(simulated=0),
        processes=PROCESSES[:2],
    )
    assert process_table(alone) is None


def test_the_page_of_a_report_has_the_processes_too() -> None:
    text = repr(other_page([REPORT], []).sections)
    assert "rank *" in text and "it is no Python" in text and "1 process not watched" in text
    assert "not watched, and its waits not in the counts: ./native." in text
