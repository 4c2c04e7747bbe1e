"""Profiled runs beside a result say which kernels took the time, against the floor."""

from __future__ import annotations

from pathlib import Path

import pytest

from bagel_perf.records.results import load
from bagel_perf.records.syncs import SyncReport
from bagel_perf.report.html.content import Section, TableBlock, Text
from bagel_perf.report.html.floors import UNPROFILED, floors_section
from bagel_perf.report.html.inputs import read_inputs
from bagel_perf.report.html.profiles import ordered

REPORTS = Path(__file__).resolve().parents[3] / "reports"
RESULT = load(REPORTS / "2026-11-27_h100-80gb_cd33067-2" / "result.json")


@pytest.fixture(scope="module")
def reports() -> tuple[SyncReport, ...]:
    names = ("fused-1024", "pr3987-1024", "fused-256")
    paths = [REPORTS / "timelines-h200" / f"{name}.json.gz" for name in names]
    found = read_inputs([REPORTS / "2026-11-27_h100-80gb_cd33067-2", *paths]).profiles
    return tuple(ordered(found, RESULT))


def rows(section: Section) -> list[tuple[str, ...]]:
    blocks = [block.table for block in section.blocks if isinstance(block, TableBlock)]
    return [row for table in blocks if table.title == "Kernels by class" for row in table.rows]


def test_each_run_has_a_row_a_class_in_the_order_of_the_result(reports: tuple[SyncReport, ...]) -> None:
    found = rows(floors_section(RESULT, reports))
    assert [row[:3] for row in found][:5] == [
        *(("1024x1024", "pr3987", name) for name in ("GEMM", "attention", "convolution", "pointwise")),
        ("1024x1024", "fused", "GEMM"),
    ]
    assert found[0][3:] == ("4351", "3156.3", "3533.4", "0.89", "751", "0.38")


def test_a_resolution_that_the_result_has_not_has_no_floor(reports: tuple[SyncReport, ...]) -> None:
    (row,) = (row for row in rows(floors_section(RESULT, reports)) if row[0] == "256x256" and row[2] == "GEMM")
    assert row[4] != "-" and row[5:] == ("-", "-", "-", "-")


def test_without_profiles_a_sentence_says_what_is_missing() -> None:
    texts = [block.text for block in floors_section(RESULT).blocks if isinstance(block, Text)]
    assert UNPROFILED in texts
