"""The difference of two traces names what is gone, new, fewer and more."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bagel_perf.records.traces import TraceReport
from bagel_perf.traces.against import difference
from bagel_perf.traces.analyse import MAX_SITES, analyse, shortened
from trace_scenes import Scene, item, requests, two_steps
from trace_stories import trace_of


def report_of(scene: Scene) -> TraceReport:
    return analyse(trace_of(scene))


def without_reads() -> Scene:
    """``two_steps`` with its reads gone."""
    scene = two_steps()
    scene.calls = [call for call in scene.calls if call.name in ("cudaLaunchKernel", "cudaDeviceSynchronize")]
    scene.works = [work for work in scene.works if work.copy is None]
    scene.syncs = [sync for sync in scene.syncs if sync.name == "Context Sync"]
    scene.ops = [op for op in scene.ops if op.name == "aten::mm"]
    return scene


def test_a_trace_against_itself_shows_no_change() -> None:
    report = report_of(two_steps())
    found = difference(report, report)
    assert (found.syncs, found.kernels, found.notes) == ((), (), ())
    assert all(total.before == total.after for total in found.totals)
    assert all(region.lost_gpu_ms_before == region.lost_gpu_ms_after for region in found.regions)


def test_waits_that_are_gone_and_new_are_listed_by_lost_time() -> None:
    before, after = report_of(two_steps()), report_of(without_reads())
    (gone,) = difference(after, before).syncs
    assert (gone.change, gone.kind, gone.count_before, gone.count_after) == ("gone", "scalar_read", 2, 0)
    assert [gone.lost_gpu_ms_before, gone.lost_gpu_ms_after] == pytest.approx([0.062, 0.0])
    (new,) = difference(before, after).syncs
    assert (new.change, new.count_after) == ("new", 2)
    totals = {total.name: (total.before, total.after) for total in difference(after, before).totals}
    assert totals["host_syncs"] == (2, 0)


def test_fewer_and_more_are_told_for_waits_and_kernels() -> None:
    scene = two_steps()
    item(scene, 400, (420, 422), 430)
    scene.kernel((440, 444), (450, 460))
    scene.kernel((445, 448), (460, 470), name="new one")
    more = difference(report_of(scene), report_of(two_steps()))
    assert [(row.change, row.count_before, row.count_after) for row in more.syncs if row.region] == []
    assert {(row.name, row.change) for row in more.kernels} == {("gemm", "more"), ("new one", "new")}
    fewer = difference(report_of(two_steps()), report_of(scene))
    assert {(row.name, row.change) for row in fewer.kernels} == {("gemm", "fewer"), ("new one", "gone")}


def test_with_stacks_a_place_is_a_function_whatever_its_line() -> None:
    def with_frame(name: str) -> TraceReport:
        scene = two_steps()
        scene.frame(name, 0, 400)
        return report_of(scene)

    same = difference(with_frame("a.py(30): f"), with_frame("a.py(3): f"))
    assert same.syncs == ()
    moved = difference(with_frame("a.py(3): g"), with_frame("a.py(3): f"))
    assert {(row.change, row.function) for row in moved.syncs} == {("gone", "f"), ("new", "g")}
    by_region = difference(with_frame("a.py(3): f"), report_of(two_steps()))
    assert {(row.change, row.op) for row in by_region.syncs} == {
        ("new", "")
    }  # without the profiler, the last wait counts
    # Where one trace has no stacks, both are compared by region.
    mixed = difference(report_of(two_steps()), with_frame("torch/autograd/profiler.py(1): __exit__"))
    assert mixed.syncs == ()
    assert any("only one trace has stacks" in note for note in mixed.notes)


def test_regions_are_listed_by_change_of_lost_time_with_those_that_are_missing() -> None:
    before, after = two_steps(), without_reads()
    after.annotations = [span for span in after.annotations if span.name != "forward"]
    rows = difference(report_of(after), report_of(before)).regions
    assert rows[0].path == ("ProfilerStep",)
    assert [rows[0].lost_gpu_ms_before, rows[0].lost_gpu_ms_after] == pytest.approx([0.062, 0.0])
    missing = next(row for row in rows if row.path == ("ProfilerStep", "forward"))
    assert (missing.calls_before, missing.calls_after) == (2, None)


def test_unlike_recordings_are_noted() -> None:
    before, after = report_of(two_steps()), report_of(two_steps())
    region = replace(after.regions[0], calls=3)
    source = replace(after.source, versions={**after.source.versions, "cupti_version": "9"})
    device = replace(after.devices[0], name="Other GPU")
    after = replace(after, regions=(region, *after.regions[1:]), source=source, devices=(device,))
    notes = " ".join(difference(after, before).notes)
    assert "ProfilerStep 2 to 3" in notes
    assert "cupti_version" in notes
    assert "Other GPU" in notes


def test_without_gpu_events_lost_times_stay_unknown() -> None:
    scene = two_steps()
    scene.works.clear()
    found = difference(report_of(scene), report_of(two_steps()))
    assert {total.name: total.after for total in found.totals}["lost_gpu_ms"] is None
    assert all(row.lost_gpu_ms_after is None for row in found.syncs)


def test_places_that_are_no_longer_listed_are_not_gone() -> None:
    found = difference(report_of(requests(MAX_SITES + 6)), report_of(requests(MAX_SITES + 5)))
    assert [(row.change, row.region) for row in found.syncs] == [("new", f"request {MAX_SITES + 5}")]


def test_a_large_difference_is_cut_with_a_note() -> None:
    report = report_of(requests(MAX_SITES + 5))
    report = shortened(replace(report, difference=difference(report, report_of(two_steps()))))
    assert report.difference is not None
    assert len(report.difference.syncs) == MAX_SITES
    assert any("places that wait the first" in note for note in report.difference.notes)
