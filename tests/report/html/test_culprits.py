"""The head of a page names the line that waits most often, and the one that cost the GPU most."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.records.results import load
from bagel_perf.records.syncs import SyncReport
from bagel_perf.report.html.inputs import read_inputs
from bagel_perf.report.html.verdict import culprit_lines
from gated_results import make_result

REPORTS = Path(__file__).resolve().parents[3] / "reports"
FOLDER = REPORTS / "2026-11-27_h200_f8d4ee8"
RESULT = load(FOLDER / "result.json")


@pytest.fixture(scope="module")
def reports() -> tuple[SyncReport, ...]:
    names = ("fused-256", "baseline-256")
    return read_inputs([FOLDER, *(REPORTS / "timelines-h200" / f"{name}.json.gz" for name in names)]).profiles


def test_the_most_frequent_line_of_the_first_variant_is_named() -> None:
    (line,) = culprit_lines(RESULT, ())
    assert line.startswith(
        "baseline at 1024x1024 waits 79557 times, most often (57344) at kernels_baseline/schedule.py:"
    )
    assert line.endswith(" (list of device scalars).")


def test_of_its_profiled_run_the_most_costly_one_is(reports: tuple[SyncReport, ...]) -> None:
    _, costly = culprit_lines(RESULT, reports)
    worst = max(reports[1].sites, key=lambda site: site.lost_gpu_ms or 0)
    assert costly.startswith(
        "In its profiled run at 256x256 (2.7 times as long as without the profiler), the GPU was idle most"
    )
    assert f"most through {worst.count} waits at {worst.file}:{worst.line}" in costly
    assert " ms" not in costly, "a profiled run inflates it"


def test_a_profile_that_is_not_of_the_result_blames_nobody(reports: tuple[SyncReport, ...]) -> None:
    foreign = [replace(reports[1], subject="baseline at 512x512")]
    assert len(list(culprit_lines(RESULT, foreign))) == 1
    other = replace(RESULT, environment=replace(RESULT.environment, device_name="NVIDIA H100"))
    assert len(list(culprit_lines(other, reports))) == 1


def test_a_run_that_lost_nothing_is_not_blamed(reports: tuple[SyncReport, ...]) -> None:
    sites = tuple(replace(site, lost_gpu_ms=None) for site in reports[1].sites)
    assert len(list(culprit_lines(RESULT, [replace(reports[1], sites=sites)]))) == 1
    assert len(list(culprit_lines(RESULT, [replace(reports[1], sites=(), host_syncs=0)]))) == 1


def test_without_sites_nobody_is_blamed() -> None:
    assert not list(culprit_lines(make_result({"sync_free": {}}), ()))
