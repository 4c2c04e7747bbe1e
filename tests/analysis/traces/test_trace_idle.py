"""Gaps of a device have the cause that a person would name, and add up."""

from __future__ import annotations

import numpy as np
import pytest

from bagel_perf.analysis.traces.findings import Findings
from bagel_perf.analysis.traces.region_times import region_times
from bagel_perf.analysis.traces.table import NONE
from bagel_perf.schema.traces import IDLE_CLASSES
from trace_scenes import MAIN, Scene, random_scene, two_steps
from trace_stories import causes_of, findings_of

SEEDS = range(60)


def test_the_gap_that_opens_in_a_wait_is_that_waits() -> None:
    findings = findings_of(two_steps())
    assert causes_of(findings) == [
        (14.0, "nothing_to_do", 0.0),
        (2.0, "queued", 0.0),
        (56.0, "after_sync", 56.0),
        (2.0, "queued", 0.0),
        (6.0, "nothing_to_do", 0.0),
    ]
    assert findings.idle.lost_by_wait_us.tolist() == [56.0, 0.0]
    assert findings.idle.busy.busy_us == (264.0,)


def test_a_wait_of_any_length_costs_nothing_while_the_gpu_has_work() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 100))
    scene.kernel((6, 10), (100, 1000))
    scene.wait("cudaEventSynchronize", 12, 900, row="Event Sync")
    scene.kernel((905, 910), (1000, 1010))
    findings = findings_of(scene)
    assert findings.waits.blocked_us.tolist() == [888.0]
    assert findings.idle.lost_by_wait_us.tolist() == [0.0]


def test_a_wait_that_begins_on_an_idle_gpu_costs_only_the_time_that_it_holds_the_host() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.wait("cudaEventSynchronize", 500, 510, row="Event Sync")
    scene.kernel((600, 605), (610, 620))
    findings = findings_of(scene)
    assert causes_of(findings)[1] == (590.0, "cpu_elsewhere", 10.0)
    assert findings.idle.lost_by_wait_us.tolist() == [10.0]
    assert IDLE_CLASSES[findings.idle.main_cause()[1]] == "cpu_elsewhere"


def test_waits_that_return_in_one_gap_share_it_and_the_last_one_has_the_rest() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 100))
    scene.wait("cudaStreamSynchronize", 20, 110)
    scene.wait("cudaDeviceSynchronize", 120, 125, row="Context Sync")
    scene.kernel((140, 145), (150, 160))
    assert findings_of(scene).idle.lost_by_wait_us.tolist() == [10.0, 40.0]


def test_a_wait_that_returned_just_before_the_gap_opened_left_no_time_to_launch() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 100))
    scene.wait("cudaEventSynchronize", 20, 94, row="Event Sync")
    scene.kernel((104, 108), (110, 120))
    assert findings_of(scene).idle.lost_by_wait_us.tolist() == [10.0]


@pytest.mark.parametrize(("returned", "launched_between"), [(80, False), (94, True)])
def test_an_earlier_return_or_a_launch_in_between_clears_the_wait(returned: int, launched_between: bool) -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 98 if launched_between else 100))
    scene.wait("cudaEventSynchronize", 20, returned, row="Event Sync")
    if launched_between:
        scene.kernel((95, 97), (98, 100))
    scene.kernel((104, 108), (110, 120))
    findings = findings_of(scene)
    assert findings.idle.lost_by_wait_us.tolist() == [0.0]
    assert (10.0, "launch_bound", 0.0) in causes_of(findings)


def test_a_wait_of_another_thread_is_not_to_blame() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 100))
    scene.wait("cudaStreamSynchronize", 20, 110, thread=MAIN + 1)
    scene.op("aten::mm", 100, 150)
    scene.kernel((140, 145), (150, 160))
    findings = findings_of(scene)
    assert findings.idle.lost_by_wait_us.tolist() == [0.0]
    assert causes_of(findings)[1] == (50.0, "launch_bound", 0.0)


def test_work_that_was_launched_before_the_gap_was_queued() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.kernel((6, 10), (80, 90), stream=20)
    assert causes_of(findings_of(scene))[1] == (60.0, "queued", 0.0)


def test_a_slow_launch_that_began_before_the_gap_is_launch_bound() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.kernel((15, 400), (402, 410))
    assert causes_of(findings_of(scene))[1] == (382.0, "launch_bound", 0.0)


def test_a_gap_filled_by_operators_and_python_between_them_is_launch_bound() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    for start in range(20, 400, 80):
        scene.op("aten::view", start, start + 5)
    scene.op("aten::mm", 400, 412)
    scene.kernel((402, 410), (415, 420))
    assert causes_of(findings_of(scene))[1] == (395.0, "launch_bound", 0.0)


@pytest.mark.parametrize("what", ["silence", "an operator of the CPU"])
def test_silence_and_operators_that_launch_nothing_are_something_else(what: str) -> None:
    scene = Scene()
    scene.op("aten::mm", 0, 6)
    scene.kernel((0, 5), (10, 20))
    if what != "silence":
        scene.op("aten::ones", 20, 990)
        scene.op("aten::fill_", 30, 980)
    scene.op("aten::mm", 1000, 1012)
    scene.kernel((1002, 1010), (1015, 1020))
    assert causes_of(findings_of(scene))[1] == (995.0, "cpu_elsewhere", 0.0)


def test_a_long_operator_that_calls_the_driver_is_issuing() -> None:
    scene = Scene()
    scene.op("aten::mm", 0, 6)
    scene.kernel((0, 5), (10, 20))
    scene.op("aten::convolution", 20, 1012)
    scene.kernel((1002, 1010), (1015, 1020))
    assert causes_of(findings_of(scene))[1] == (995.0, "launch_bound", 0.0)


def test_work_whose_launch_is_missing_ends_a_gap_of_unknown_cause() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.kernel((30, 35), (40, 50))
    scene.calls.pop()
    assert causes_of(findings_of(scene))[1] == (20.0, "unknown", 0.0)


def test_the_work_before_a_gap_is_the_one_that_ended_last() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 90), name="long")
    scene.kernel((6, 9), (30, 40), stream=20, name="short")
    scene.kernel((100, 105), (110, 120))
    findings = findings_of(scene)
    before = findings.idle.gaps.before
    names = [findings.trace.names[findings.trace.activities.name[row]] for row in before if row != NONE]
    assert names == ["long"]


def test_busy_is_the_union_over_streams_and_each_device_has_its_own() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 50))
    scene.kernel((6, 9), (30, 70), stream=20)
    scene.kernel((10, 12), (60, 100), device=1)
    findings = findings_of(scene)
    assert (findings.idle.busy.devices, findings.idle.busy.busy_us) == ((0, 1), (60.0, 40.0))


def assert_adds_up(findings: Findings) -> None:
    """What has to hold whatever a trace looks like."""
    idle, window = findings.idle, findings.window
    gaps, num_devices = idle.gaps, len(idle.busy.devices)
    by_class_us = idle.by_class_us()
    assert all(time_us >= 0 for time_us in by_class_us.values())
    total_us = sum(idle.busy.busy_us) + sum(by_class_us.values())
    assert total_us == pytest.approx(num_devices * window.length_us, abs=1e-6)
    assert idle.lost_by_wait_us.sum() == pytest.approx(by_class_us["after_sync"], abs=1e-6)
    assert (idle.lost_us <= gaps.length_us + 1e-9).all()
    assert (idle.lost_us[idle.cause == IDLE_CLASSES.index("queued")] == 0).all()
    assert (idle.lost_by_wait_us >= 0).all()
    assert ((idle.wait != NONE) == (idle.lost_us > 0)).all() or (idle.lost_us[idle.wait != NONE] >= 0).all()
    # No activity runs inside a gap of its device.
    works = findings.trace.activities
    for device in idle.busy.devices:
        mine = gaps.device == device
        starts, ends = gaps.start_us[mine], gaps.end_us[mine]
        assert (starts[1:] >= ends[:-1]).all()
        runs = works.device == device
        inside = (works.start_us[runs][:, None] < ends[None]) & (works.end_us[runs][:, None] > starts[None])
        assert not inside.any()


@pytest.mark.parametrize("seed", SEEDS)
def test_classes_add_up_to_all_idle_time_of_a_random_trace(seed: int) -> None:
    assert_adds_up(findings_of(random_scene(seed)))


@pytest.mark.parametrize("seed", SEEDS)
def test_they_add_up_in_any_window(seed: int) -> None:
    scene = random_scene(seed)
    end = max(work.end for work in scene.works) if scene.works else 10
    scene.annotation("bagel_perf.window", end // 3, end // 3 + max(end // 2, 1))
    assert_adds_up(findings_of(scene))


@pytest.mark.parametrize("seed", SEEDS)
def test_regions_without_nesting_add_up_to_the_totals(seed: int) -> None:
    scene = random_scene(seed)
    for start in range(0, 2000, 97):
        scene.annotation(f"part {start % 3}", start, start + 80)
    findings = findings_of(scene)
    if not findings.has_gpu:
        return
    rows = region_times(findings)
    idle = findings.idle
    assert sum(row.host_syncs or 0 for row in rows) == len(findings.waits)
    assert sum(row.launches or 0 for row in rows) == findings.launches.is_launch.sum()
    assert sum(row.gpu_busy_ms or 0 for row in rows) == pytest.approx(sum(idle.busy.busy_us) / 1e3)
    assert sum(row.gpu_idle_ms or 0 for row in rows) == pytest.approx(float(np.sum(idle.gaps.length_us)) / 1e3)
    assert sum(row.lost_gpu_ms or 0 for row in rows) == pytest.approx(float(idle.lost_by_wait_us.sum()) / 1e3)
