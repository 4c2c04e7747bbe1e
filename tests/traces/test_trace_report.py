"""The report of a trace: regions, places, gaps, lanes, kernels, and what it warns of."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise

import pytest

from bagel_perf.records.errors import UsageError
from bagel_perf.records.traces import MAX_SEGMENTS, TraceReport
from bagel_perf.traces.analyse import MAX_REGIONS, MAX_SITES, analyse, shortened
from bagel_perf.traces.tables import CallSite
from bagel_perf.traces.waits import program_line
from bagel_perf.traces.window import covered_us, merged, union
from trace_scenes import MAIN, Scene, Sync, Work, item, random_scene, requests, two_steps
from trace_stories import trace_of


def report_of(scene: Scene) -> TraceReport:
    return analyse(trace_of(scene))


def graphs(num_replays: int, num_recorded: int) -> Scene:
    """Replays of a graph of two kernels, of which the first ``num_recorded`` are in the trace."""
    scene = Scene()
    for i in range(num_replays):
        start = 1000 * i
        number = scene.call("cudaGraphLaunch", start, start + 10)
        if i < num_recorded:
            scene.works.append(Work("kernel", "a", start + 12, start + 400, number))
            scene.works.append(Work("kernel", "b", start + 401, start + 800, number))
        scene.wait("cudaStreamSynchronize", start + 20, start + 810)
    scene.kernel((num_replays * 1000, num_replays * 1000 + 5), (num_replays * 1000 + 6, num_replays * 1000 + 9))
    return scene


def test_a_region_contains_what_lies_in_the_regions_inside_it() -> None:
    rows = {region.path: region for region in report_of(two_steps()).regions}
    step, forward = rows["ProfilerStep",], rows["ProfilerStep", "forward"]
    assert (step.calls, step.launches, step.host_syncs, forward.launches, forward.host_syncs) == (2, 6, 2, 6, 0)
    assert [step.gpu_busy_ms, forward.gpu_busy_ms] == pytest.approx([0.264, 0.26])
    # What a wait caused is its region's, which lies in the step and not in forward.
    assert [step.lost_gpu_ms, forward.lost_gpu_ms] == pytest.approx([0.062, 0.0])
    assert step.syncs_by_kind == {"scalar_read": 2}
    assert step.wall_ms == pytest.approx(0.36)
    assert sum(step.idle_by_cause_ms.values()) == pytest.approx(step.gpu_idle_ms)


def test_regions_stand_as_a_tree_by_lost_time_and_what_is_outside_comes_last() -> None:
    scene = Scene()
    scene.annotation("quick", 0, 100)
    scene.kernel((0, 5), (10, 90))
    scene.annotation("slow", 200, 900)
    scene.annotation("inner", 210, 300)
    scene.kernel((220, 225), (230, 290))
    item(scene, 230, (290, 292), 310)
    scene.kernel((800, 805), (810, 820))
    scene.kernel((1000, 1005), (1010, 1020))
    assert [region.path for region in report_of(scene).regions] == [("slow",), ("slow", "inner"), ("quick",), ()]


def test_places_are_told_apart_by_kind_operator_line_and_region_and_sorted_by_lost_time() -> None:
    scene = two_steps()
    scene.frame("a.py(3): f", 60, 160)
    scene.frame("a.py(9): g", 240, 360)
    scene.frame("torch/autograd/profiler.py(1): __exit__", 370, 390)
    sites = report_of(scene).sites
    assert [(site.file, site.line, site.function, site.count) for site in sites] == [
        ("a.py", 3, "f", 1),
        ("a.py", 9, "g", 1),
    ]
    assert [site.lost_gpu_ms for site in sites] == pytest.approx([0.056, 0.006])
    assert sites[0].region == "ProfilerStep"
    assert sites[0].blocked_ms == pytest.approx(0.077)


@pytest.mark.parametrize(
    ("frames", "line"),
    [
        ([("<built-in method item of Tensor object at 0x7>", "a.py:11"), ("a.py(6): f", "a.py:21")], 11),
        (
            [
                ("<built-in function _cuda_synchronize>", "torch/cuda/__init__.py:9"),
                ("torch/cuda/__init__.py(5): synchronize", "a.py:8"),
                ("a.py(6): f", "a.py:21"),
            ],
            8,
        ),
        ([("a.py(6): f", "a.py:21")], 6),
        ([("<built-in method item of Tensor object at 0x7>", ""), ("a.py(6): f", "")], 6),
        ([("<built-in method item of Tensor object at 0x7>", "other.py:11"), ("a.py(6): f", "")], 6),
    ],
)
def test_the_line_is_where_the_program_called_out_if_the_trace_says_so(
    frames: list[tuple[str, str]], line: int
) -> None:
    assert program_line(frames) == CallSite(file="a.py", line=line, function="f")


def test_the_worst_gap_says_what_surrounded_it() -> None:
    scene = Scene()
    scene.annotation("step", 0, 1000)
    scene.op("aten::mm", 0, 6)
    scene.kernel((0, 5), (10, 20), name="before")
    scene.op("aten::ones", 20, 900)
    scene.op("aten::fill_", 25, 890)
    scene.op("aten::mm", 950, 962)
    scene.kernel((952, 960), (965, 970), name="after")
    gap = report_of(scene).gaps[0]
    assert [gap.start_ms, gap.duration_ms] == pytest.approx([0.02, 0.945])
    assert gap.cause == "cpu_elsewhere"
    assert (gap.before, gap.after, gap.launch, gap.region) == ("before", "after", "cudaLaunchKernel", "step")
    assert [(part.cause, part.what) for part in gap.parts] == [
        ("launch_bound", "step: aten::ones"),
        ("cpu_elsewhere", "step: aten::ones > aten::fill_"),
        ("launch_bound", "step"),
        ("launch_overhead", "cudaLaunchKernel"),
    ]
    assert sum(part.duration_ms for part in gap.parts) == pytest.approx(gap.duration_ms)


def test_a_gap_names_the_wait_that_opened_it_and_python_where_nothing_else_ran() -> None:
    scene = two_steps()
    gap = report_of(scene).gaps[0]
    assert gap.cause == "after_sync"
    assert gap.lost_gpu_ms == pytest.approx(0.056)
    read = "scalar_read aten::item > aten::_local_scalar_dense"
    assert [(part.cause, part.what) for part in gap.parts] == [("host_sync", read), ("after_sync", read)]
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.frame("<built-in function sleep of module object at 0x7f>", 30, 940)
    scene.kernel((952, 960), (965, 970))
    assert report_of(scene).gaps[0].parts[0].what == "sleep"


def test_a_gap_names_the_line_of_the_program_before_what_it_called() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.frame("serve.py(40): handle", 0, 9000)
    scene.frame("serve.py(12): preprocess", 25, 8900)
    scene.frame("torchvision/transforms/functional.py(300): resize", 30, 8890)
    scene.kernel((8952, 8960), (8965, 8970))
    (told, *_) = report_of(scene).gaps[0].parts
    assert told.what == "serve.py(12): preprocess > torchvision/transforms/functional.py(300): resize"


def test_many_small_operators_are_named_together() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    for start in range(30, 8900, 50):
        scene.op("aten::mul" if start % 150 else "aten::add", start, start + 45)
    scene.kernel((8952, 8960), (8965, 8970))
    report = report_of(scene)
    assert report.gaps[0].parts[0].what == "178 operators, mostly aten::mul"
    assert report.culprits[0].what == "178 operators, mostly aten::mul"
    assert sum(culprit.idle_ms for culprit in report.culprits) == pytest.approx(report.gpu_idle_ms)


def test_lanes_are_bounded_cover_the_window_and_the_worst_call_of_each_region() -> None:
    scene = Scene()
    for i in range(1500):
        start = 20 * i
        scene.op("aten::mm", start, start + 9)
        scene.kernel((start + 2, start + 8), (start + 10, start + 14 + i % 3))
    scene.annotation("a", 0, 15000)
    scene.annotation("b", 15001, 29999)
    drawn = report_of(scene).lanes
    assert [lanes.region for lanes in drawn] == ["", "b", "a"] or [lanes.region for lanes in drawn] == ["", "a", "b"]
    for lanes in drawn:
        for lane in (lanes.cpu, lanes.syncs, lanes.gpu, lanes.idle):
            assert len(lane) <= MAX_SEGMENTS
            assert all(begin <= end for begin, end, _ in lane)
            assert all(a[1] <= b[0] for a, b in pairwise(lane))
            assert all(lanes.start_ms - 1e-3 <= begin and end <= lanes.end_ms + 1e-3 for begin, end, _ in lane)
    assert drawn[0].gpu[0][0] == pytest.approx(0.01)
    assert "launch_overhead" in {label for *_, label in drawn[0].idle}


def test_merged_segments_say_how_full_they_are() -> None:
    scene = Scene()
    for i in range(1500):
        scene.op("aten::mm", 20 * i, 20 * i + 9)
        scene.kernel((20 * i + 2, 20 * i + 8), (20 * i + 10, 20 * i + 14))
    report = report_of(scene)
    (whole,) = report.lanes
    busy_ms = sum(share * (end - begin) for (begin, end, _), share in zip(whole.gpu, whole.shares["gpu"], strict=True))
    assert busy_ms == pytest.approx(report.gpu_busy_ms, rel=0.01) and busy_ms == pytest.approx(1500 * 0.004, rel=0.01)
    assert min(whole.shares["gpu"]) < 0.25, "4 of every 20 us"
    assert set(report_of(two_steps()).lanes[0].shares["gpu"]) == {1.0}, "nothing was merged"


def test_narrow_gaps_are_closed_first() -> None:
    scene = two_steps()
    starts, ends = union(trace_of(scene).activities.start_us, trace_of(scene).activities.end_us)
    assert list(zip(starts, ends, strict=True)) == [(20, 140), (142, 144), (200, 340), (342, 344)]
    assert merged(starts, ends, 2).tolist() == [0, 0, 1, 1]
    assert covered_us(starts, ends, starts - 1, ends + 1).tolist() == [120, 2 + 0, 140, 2]


def test_kernels_are_counted_with_their_time() -> None:
    (kernel,) = report_of(two_steps()).kernels
    assert (kernel.name, kernel.count) == ("gemm", 6)
    assert kernel.total_ms == pytest.approx(0.26)


def test_allocations_and_pageable_copies_are_counted_apart() -> None:
    scene = two_steps()
    scene.call("cudaMalloc", 151, 156)
    scene.call("cudaFree", 157, 170)
    scene.call("cudaMallocAsync", 390, 395)
    scene.memcpy((171, 178), (180, 182), "HtoD", memory="Pageable")
    report = report_of(scene)
    assert (report.allocator_calls, report.pageable_copies) == (2, 1)
    assert [report.allocator_ms, report.pageable_copy_ms] == pytest.approx([0.018, 0.007])
    assert report.host_syncs == 2


def test_a_report_survives_json_and_knows_its_version() -> None:
    report = report_of(two_steps())
    data = json.loads(json.dumps(report.to_json()))
    assert TraceReport.from_json(data) == report
    assert list(data)[:2] == ["schema", "version"]
    assert {"host_syncs", "launches", "blocked_ms", "gpu_busy_ms", "gpu_idle_ms", "regions", "gaps"} <= data.keys()
    with pytest.raises(UsageError, match="version"):
        TraceReport.from_json(data | {"version": 2})


def test_a_large_trace_gives_a_small_report() -> None:
    whole = report_of(requests(MAX_SITES + 5))
    assert len(whole.sites) == MAX_SITES + 5
    report = shortened(whole)
    assert (len(report.sites), len(report.regions)) == (MAX_SITES, MAX_REGIONS)
    assert report.regions[-1].path == ()
    assert len(report.gaps) == 100
    assert any(f"of {MAX_SITES + 5} places that wait" in note for note in report.notes)
    assert len(json.dumps(report.to_json())) < 2_000_000


def test_no_gpu_events_is_said_loudly_and_no_figure_is_made_up() -> None:
    scene = two_steps()
    scene.works.clear()
    report = report_of(scene)
    assert report.warnings[0].startswith("NO GPU EVENTS")
    assert (report.gpu_busy_ms, report.gpu_idle_ms, report.lost_gpu_ms, report.predicted_saving_ms) == (None,) * 4
    assert (report.sites[0].lost_gpu_ms, report.regions[0].gpu_idle_ms, report.gaps) == (None, None, ())
    assert report.host_syncs == 3
    assert report.blocked_ms == pytest.approx(0.178)


def test_no_sync_events_and_no_calls_are_said_loudly() -> None:
    scene = two_steps()
    scene.syncs.clear()
    assert "NO SYNC EVENTS" in report_of(scene).warnings[0]
    scene = two_steps()
    scene.calls.clear()
    report = report_of(scene)
    assert "NO RUNTIME CALLS" in report.warnings[0]
    assert (report.host_syncs, report.launches) == (3, 6)
    assert report.idle_by_cause_ms["unknown"] == pytest.approx(report.gpu_idle_ms)
    assert (report.lost_gpu_ms, report.predicted_saving_ms, report.allocator_calls) == (None, None, None)
    assert all((site.lost_gpu_ms, site.predicted_saving_ms) == (None, None) for site in report.sites)
    assert all(region.lost_gpu_ms is None for region in report.regions)
    assert all(gap.lost_gpu_ms is None for gap in report.gaps)
    scene.syncs.clear()
    report = report_of(scene)
    assert "NO RUNTIME CALLS AND NO SYNC EVENTS" in report.warnings[0]
    assert (report.host_syncs, report.blocked_ms, report.launches) == (None, None, 6)
    scene.works.clear()
    scene.op("aten::add", 1, 2)
    report = report_of(scene)
    assert (report.host_syncs, report.blocked_ms, report.launches) == (None, None, None)
    assert {(row.host_syncs, row.launches, row.blocked_ms) for row in report.regions} == {(None, None, None)}


def test_work_that_nobody_is_known_to_have_launched_has_no_lost_time_and_no_predicted_saving() -> None:
    scene = two_steps()
    scene.works = [dataclasses.replace(work, correlation=0) for work in scene.works]
    report = report_of(scene)
    assert "LAUNCHES WITHOUT WORK: of 6 launches 6" in report.warnings[0]
    assert "lacks its launch" in report.warnings[1]
    assert (report.lost_gpu_ms, report.predicted_saving_ms, report.sites[0].predicted_saving_ms) == (None, None, None)
    assert report.gpu_idle_ms is not None


def test_graphs_are_said_to_hide_launches_and_their_kernels_are_the_replays() -> None:
    report = report_of(graphs(4, 4))
    assert "CUDA GRAPHS: 4 replays hide the launches" in report.warnings[0]
    assert "8 activities" in report.warnings[0]
    assert report.is_idle_reliable
    assert report.graph_launches == 4
    assert report.gpu_busy_ms == pytest.approx(4 * 0.787 + 0.003)
    assert report.idle_by_cause_ms["queued"] == pytest.approx(0.004)


def test_replays_without_work_make_idle_times_unreliable_and_none_is_shown() -> None:
    report = report_of(graphs(4, 1))
    assert "IDLE TIME IS UNRELIABLE" in report.warnings[0]
    assert not report.is_idle_reliable
    assert (report.gpu_idle_ms, report.idle_by_cause_ms, report.lost_gpu_ms, report.gaps) == (None, {}, None, ())
    assert report.gpu_busy_ms is not None
    assert all(lanes.idle == () and "idle" not in lanes.shares for lanes in report.lanes)
    assert report.host_syncs == 4


def test_waits_for_nothing_recorded_betray_work_that_graphs_hide() -> None:
    scene = graphs(4, 4)
    scene.works = [dataclasses.replace(work, end=work.start + 1) for work in scene.works]
    assert "the host waits for work that is not recorded" in report_of(scene).warnings[0]


def test_work_without_launch_is_said_where_it_is_more_than_the_edge_of_a_trace() -> None:
    scene = two_steps()
    del scene.calls[0], scene.calls[0]
    assert any("lacks its launch" in warning for warning in report_of(scene).warnings)


def test_notes_say_what_was_left_out() -> None:
    scene = two_steps()
    scene.syncs.append(Sync("Stream Wait Event", 100, 101, 999))
    scene.op("bagel_perf.wait 1", 170, 171)
    scene.op("bagel_perf.wait 2", 172, 173)
    scene.overhead.append(type(scene.ops[0])("Activity Buffer Request", 145, 1150, MAIN))
    notes = " ".join(report_of(scene).notes)
    for part in ("profiler's own", "1 waits of one stream", "1 waits seen by callback", "no stacks"):
        assert part in notes
    scene = two_steps()
    scene.kernel((5000, 5004), (5010, 5020))
    scene.overhead.append(type(scene.ops[0])("Activity Buffer Request", 1000, 4000, MAIN))
    assert any("3.0 ms of idle time are the profiler's own work" in note for note in report_of(scene).notes)


@pytest.mark.parametrize("seed", range(25))
def test_any_trace_gives_a_report_that_survives_json(seed: int) -> None:
    report = report_of(random_scene(seed))
    assert TraceReport.from_json(json.loads(json.dumps(report.to_json()))) == report
    assert sum(site.count for site in report.sites) == report.host_syncs == sum(report.syncs_by_kind.values())
    assert [site.lost_gpu_ms or 0 for site in report.sites] == sorted(
        (site.lost_gpu_ms or 0 for site in report.sites), reverse=True
    )


def test_a_region_that_is_listed_has_its_parents_listed() -> None:
    scene = Scene()
    for i in range(MAX_REGIONS):
        scene.annotation(f"outer {i}", 40 * i, 40 * i + 38)
        scene.annotation(f"inner {i}", 40 * i + 1, 40 * i + 37)
        item(scene, 40 * i + 2, (40 * i + 20, 40 * i + 22), 40 * i + 30)
    regions = shortened(report_of(scene)).regions
    paths = {region.path for region in regions}
    assert MAX_REGIONS - 2 <= len(regions) <= MAX_REGIONS
    assert all(path[:-1] in paths for path in paths if len(path) > 1)
