"""The committed reports of a GPU say what the README beside them, the simulated device and ``compare`` say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bagel_perf.records.results import load
from bagel_perf.records.syncs import SyncReport
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats.reading import read_trace

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "reports" / "syncs-h100"
RESULT = load(ROOT / "reports" / "2026-11-23_h200_252761e" / "result.json")


def report_of(name: str) -> SyncReport:
    return SyncReport.from_json(json.loads((FOLDER / f"{name}.json").read_text()))


@pytest.mark.parametrize("variant", ["baseline", "pr3987", "sync_free"])
def test_a_variant_waits_as_often_as_in_compare_and_every_wait_is_explained(variant: str) -> None:
    report = report_of(f"{variant}-256")
    cells = [
        cell
        for cell in RESULT.cells
        if (cell.variant, cell.case) == (variant, "256x256") and cell.stage in ("ar", "dit")
    ]
    assert sum(cell.host_syncs or 0 for cell in cells) == report.host_syncs
    seen = report.witnesses
    assert {seen.callbacks, seen.debug_mode, seen.cupti} == {report.host_syncs}
    assert report.unexplained == 0
    assert all(site.file.startswith(("kernels_baseline/", "kernels_optimized/")) for site in report.sites)
    lost = [site.lost_gpu_ms or 0 for site in report.sites]
    assert lost == sorted(lost, reverse=True)


def test_the_script_waits_as_often_as_on_the_simulated_device() -> None:
    report = report_of("three_loops")
    assert (report.host_syncs, report.witnesses.blind, report.unexplained) == (178, 1, 0)


def test_the_predicted_saving_that_was_put_to_the_test_came_true() -> None:
    check = report_of("baseline-256").saving_check
    assert check is not None and check.agrees and check.num_pairs == 16


def test_the_readme_shows_the_counts_of_the_reports() -> None:
    text = (FOLDER / "README.md").read_text()
    for name in ("baseline-256", "pr3987-256", "sync_free-256", "three_loops"):
        report = report_of(name)
        (line,) = (line for line in text.splitlines() if f"]({name}.json)" in line)
        cells = [cell.strip() for cell in line.split("|")][2:6]
        seen = report.witnesses
        assert cells == [str(seen.callbacks), str(seen.debug_mode), str(seen.cupti), str(report.unexplained)]


def test_the_trace_of_a_variant_is_read_with_all_its_waits() -> None:
    report = analyse(read_trace(FOLDER / "pr3987_t2i.json.gz"))
    assert report.syncs_by_kind == {"scalar_read": 118, "d2h_copy": 4, "pageable_upload": 1}
    assert (report.host_syncs, report.launches, report.unmatched_markers) == (123, 6259, 0)
    assert report.warnings == ()
    regions = {region.path[-1]: region.host_syncs for region in report.regions if region.path}
    assert (regions["attention_lengths"], regions["merge_kv"]) == (56, 56)  # twice a layer and step
