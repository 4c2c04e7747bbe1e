"""Copies in the record of a watched program: what is unknown does not look like nothing."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bagel_perf.records.copies import CopySite, by_bytes
from bagel_perf.records.errors import UsageError
from bagel_perf.records.syncs import SyncReport, Witnesses

SITE = CopySite(direction="upload", file="a.py", line=1, function="f", region="", count=2, num_bytes=8, num_waited=1)
REPORT = SyncReport(device="simulated", host_syncs=0, unexplained=0, sites=(), witnesses=Witnesses(simulated=0))


@pytest.mark.parametrize("copies", [None, (), (SITE,), (replace(SITE, num_bytes=None),)])
def test_copies_survive_json(copies: tuple[CopySite, ...] | None) -> None:
    report = replace(REPORT, copies=copies)
    assert SyncReport.from_json(report.to_json()) == report


def test_a_report_from_before_copies_were_looked_for_does_not_know_them() -> None:
    data = REPORT.to_json()
    del data["copies"]
    assert SyncReport.from_json(data).copies is None


@pytest.mark.parametrize(("count", "num_waited"), [(1, 2), (0, 0), (1, -1)])
def test_no_more_copies_are_waited_for_than_there_are(count: int, num_waited: int) -> None:
    with pytest.raises(UsageError, match="copies were waited for"):
        replace(SITE, count=count, num_waited=num_waited)


def test_copies_of_unknown_size_come_first_as_they_may_be_the_largest() -> None:
    small, large, unknown = SITE, replace(SITE, num_bytes=9), replace(SITE, num_bytes=None)
    assert by_bytes([small, large, unknown]) == (unknown, large, small)
