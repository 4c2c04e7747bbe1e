"""What ``syncs`` prints of copies between host and GPU, of several devices, and of NCCL."""

from __future__ import annotations

import io

import pytest
from msgspec.structs import replace

from bagel_perf.records.copies import CopySite, Direction
from bagel_perf.records.sites import SyncSite
from bagel_perf.records.syncs import SyncReport, Witnesses
from bagel_perf.report.copy_tables import bytes_text, copy_table, size_text
from bagel_perf.report.sync_tables import print_syncs


def copy(direction: Direction, num_bytes: int | None, *, count: int = 1, waited: int = 0, region: str = "") -> CopySite:
    return CopySite(
        direction=direction,
        file="loop.py",
        line=7,
        function="run",
        region=region,
        count=count,
        num_bytes=num_bytes,
        num_waited=waited,
    )


def site(**facts: int | str) -> SyncSite:
    base = SyncSite(kind="explicit_sync", file="loop.py", line=3, function="run", region="", count=1)
    return replace(base, **facts)


def report_of(*sites: SyncSite, copies: tuple[CopySite, ...] | None = ()) -> SyncReport:
    num_syncs = sum(each.count for each in sites)
    witnesses = Witnesses(callbacks=num_syncs)
    return SyncReport(
        device="cuda", host_syncs=num_syncs, unexplained=0, sites=sites, witnesses=witnesses, copies=copies
    )


def printed(report: SyncReport, top: int = 10) -> str:
    stream = io.StringIO()
    print_syncs(report, stream, top=top)
    return stream.getvalue()


COPIES = (
    copy("upload", 3 << 20, count=2, region="denoise"),
    copy("download", 4096, count=4, waited=3),
    copy("upload", 12, waited=1),
)


def test_a_table_lists_copies_and_has_a_total_of_each_direction() -> None:
    table = copy_table(report_of(copies=COPIES), top=10)
    assert table is not None
    assert table.rows == (
        ("upload", "2", "3.0 MiB", "0", "loop.py:7 run\nin denoise"),
        ("download", "4", "4.0 KiB", "3", "loop.py:7 run"),
        ("upload", "1", "12 B", "1", "loop.py:7 run"),
        ("upload", "3", "3.0 MiB", "1", "total"),
        ("download", "4", "4.0 KiB", "3", "total"),
    )


def test_more_lines_than_asked_for_are_one_row_and_in_the_totals() -> None:
    table = copy_table(report_of(copies=COPIES), top=1)
    assert table is not None
    assert [row[-1] for row in table.rows] == ["loop.py:7 run\nin denoise", "2 more lines (--top)", "total", "total"]
    assert table.rows[1] == ("", "5", "4.0 KiB", "4", "2 more lines (--top)")


def test_nothing_is_printed_where_nothing_was_copied_and_unknown_does_not_look_like_that() -> None:
    assert "opies" not in printed(report_of(copies=()))
    assert "copies between host and GPU are unknown" in printed(report_of(copies=None))


def test_bytes_that_nobody_knows_are_told() -> None:
    assert size_text([None]) == "?"
    assert size_text([None, 12]) == ">= 12 B"
    assert size_text([]) == "?" and size_text([0]) == "0 B"
    assert "? stands for bytes that nobody knows" in printed(report_of(copies=(copy("upload", None),)))


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 20, "1.0 MiB"), (5 << 30, "5.0 GiB")]
)
def test_bytes_have_the_largest_unit_that_fits(num_bytes: int, text: str) -> None:
    assert bytes_text(num_bytes) == text


def test_waits_of_unknown_kind_may_be_copies() -> None:
    report = report_of(site(kind="unknown", count=3), copies=COPIES)
    assert "3 waits of unknown kind may be copies" in printed(report)


def test_a_device_that_is_waited_for_by_name_is_told_from_the_one_at_work() -> None:
    assert "of another device: cuda:1, at work on cuda:0" in printed(report_of(site(device=1, at_work_on=0)))


def test_devices_are_named_only_where_there_are_several() -> None:
    assert "cuda:0" not in printed(report_of(site(device=0), site(device=0, line=4)))
    assert "on cuda:1" in printed(report_of(site(device=0), site(device=1, line=4)))


def test_waits_of_collectives_are_nccls() -> None:
    assert "waits inside NCCL" in printed(report_of(site(device=0, library="nccl")))
    assert "waits inside torch.distributed" in printed(report_of(site(device=0, library="torch.distributed")))
