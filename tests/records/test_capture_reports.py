"""The report of what prevents a CUDA graph: round trips, its header, and what it may not say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bagel_perf.records.blockers import Blocker, CaptureReport
from bagel_perf.records.errors import UsageError

VALUE = Blocker(
    kind="value",
    effect="freezes",
    file="loop.py",
    line=3,
    function="step",
    region="step",
    count=2,
    detail="mul: 1 | 2",
    remedy="fill_ it before each replay",
    expressions=("x * i",),
)
REPORT = CaptureReport(region="step", device="simulated", num_entries=3, blockers=(VALUE,), is_capturable=False)


def test_a_report_comes_back_from_its_json() -> None:
    data = json.loads(json.dumps(REPORT.to_json()))
    assert (data["schema"], data["version"]) == ("bagel-perf.capture", 1)
    assert CaptureReport.from_json(data) == REPORT


def test_another_schema_or_a_newer_version_is_refused() -> None:
    for change in ({"schema": "bagel-perf.syncs"}, {"version": 2}):
        with pytest.raises(UsageError):
            CaptureReport.from_json({**REPORT.to_json(), **change})


@pytest.mark.parametrize(
    "fields",
    [
        {"blockers": (VALUE,)},
        {"blockers": (), "tried": "CUDA error"},
        {"blockers": (), "num_entries": 1},
    ],
)
def test_no_report_calls_a_region_capturable_against_what_it_says(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        CaptureReport(**{"region": "step", "device": "cuda", "num_entries": 3, "is_capturable": True, **fields})


@pytest.mark.parametrize("fields", [{"count": 0}, {"remedy": " "}])
def test_a_blocker_was_seen_and_has_a_remedy(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Blocker(**{name: getattr(VALUE, name) for name in VALUE.__struct_fields__} | fields)
