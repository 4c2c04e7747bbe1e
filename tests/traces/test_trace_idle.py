"""Gaps of a device have the cause that a person would name, and add up."""

from __future__ import annotations

import pytest

from bagel_perf.records.traces import CAUSES, Cause
from bagel_perf.traces.tables import NONE
from bagel_perf.traces.times import region_times
from trace_scenes import MAIN, Scene, Work, item, two_steps
from trace_stories import causes_of, findings_of


def test_a_gap_that_opens_in_a_wait_is_split_into_the_wait_and_the_restart_after_it() -> None:
    findings = findings_of(two_steps())
    assert causes_of(findings) == [
        [(4.0, "cpu_elsewhere"), (2.0, "launch_bound"), (14.0, "launch_overhead")],
        [(2.0, "queued")],
        [(6.0, "host_sync"), (50.0, "after_sync")],
        [(2.0, "queued")],
        [(6.0, "host_sync"), (20.0, "cpu_elsewhere")],
    ]
    assert findings.idle.lost_by_wait_us.tolist() == [56.0, 6.0]
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
    assert causes_of(findings)[1] == [
        (480.0, "cpu_elsewhere"),
        (10.0, "host_sync"),
        (90.0, "launch_bound"),
        (10.0, "launch_overhead"),
    ]
    assert findings.idle.lost_by_wait_us.tolist() == [10.0]
    assert CAUSES[findings.idle.main_cause()[1]] == "cpu_elsewhere"


def test_waits_that_return_in_one_gap_share_it_and_each_has_what_follows_it() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 100))
    scene.wait("cudaStreamSynchronize", 20, 110)
    scene.wait("cudaDeviceSynchronize", 120, 125, row="Context Sync")
    scene.kernel((140, 145), (150, 160))
    assert findings_of(scene).idle.lost_by_wait_us.tolist() == [20.0, 30.0]


def test_what_the_host_does_after_a_wait_is_not_that_waits() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 100))
    scene.wait("cudaStreamSynchronize", 20, 110)
    scene.frame("next.py(3): preprocess", 120, 500_000)
    scene.kernel((500_020, 500_025), (500_030, 500_040))
    findings = findings_of(scene)
    assert causes_of(findings)[1] == [(10.0, "host_sync"), (499_910.0, "cpu_elsewhere"), (10.0, "launch_overhead")]
    assert findings.idle.lost_by_wait_us.tolist() == [10.0]


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
    assert [(4.0, "launch_bound"), (6.0, "launch_overhead")] in causes_of(findings)


def test_a_wait_of_another_thread_is_not_to_blame() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 100))
    scene.wait("cudaStreamSynchronize", 20, 110, thread=MAIN + 1)
    scene.op("aten::mm", 100, 150)
    scene.kernel((140, 145), (150, 160))
    findings = findings_of(scene)
    assert findings.idle.lost_by_wait_us.tolist() == [0.0]
    assert causes_of(findings)[1] == [(40.0, "launch_bound"), (10.0, "launch_overhead")]


def test_until_the_next_thread_is_heard_of_the_one_before_tells_the_cause() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 100))
    item(scene, 20, (100, 102), 110)
    scene.frame("train.py(7): loss", 300, 9000)
    worker = MAIN + 1
    scene.op("autograd::engine::evaluate_function: MmBackward0", 9010, 9060, thread=worker)
    scene.kernel((9040, 9045), (9050, 9060), thread=worker)
    findings = findings_of(scene)
    parts = causes_of(findings)[1]
    assert (parts[:2], parts[-2:]) == (
        [(8.0, "host_sync"), (4.0, "after_sync")],
        [(30.0, "launch_bound"), (10.0, "launch_overhead")],
    )
    assert sum(length for length, cause in parts if cause == "cpu_elsewhere") == 8896.0
    longest = findings.idle.parts.length_us.argmax()
    assert findings.trace.threads[findings.idle.parts.thread[longest]] == f"thread {MAIN}"


def test_work_that_was_launched_before_the_gap_was_queued() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.kernel((6, 10), (80, 90), stream=20)
    assert causes_of(findings_of(scene))[1] == [(60.0, "queued")]


def test_work_behind_a_stream_wait_is_queued_though_the_host_was_late_at_first() -> None:
    scene = Scene()
    for start in (0, 100, 200, 300, 400, 500):
        scene.kernel((start, start + 5), (start + 8, start + 20))
    scene.call("cudaStreamWaitEvent", 600, 602)
    scene.kernel((650, 655), (100_000, 100_010), stream=20)
    scene.wait("cudaStreamSynchronize", 660, 100_015)
    findings = findings_of(scene)
    assert causes_of(findings)[-2] == [(130.0, "launch_bound"), (15.0, "launch_overhead"), (99_335.0, "queued")]
    assert findings.idle.lost_by_wait_us.tolist() == [5.0]
    call = findings.idle.parts.call[findings.idle.parts.length_us.argmax()]
    assert findings.trace.names[findings.trace.calls.name[call]] == "cudaStreamWaitEvent"


def test_a_launch_of_its_own_stream_since_the_stream_wait_clears_that() -> None:
    scene = Scene()
    scene.kernel((0, 5), (8, 20), stream=20)
    scene.call("cudaStreamWaitEvent", 30, 32)
    scene.kernel((40, 45), (48, 60), stream=20)
    scene.kernel((70, 75), (200_000, 200_010), stream=20)
    scene.wait("cudaStreamSynchronize", 80, 200_015)
    assert causes_of(findings_of(scene))[-2][-1][1] == "unrecorded_work"


def test_a_wait_while_nothing_is_recorded_is_for_something_that_was_not() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.wait("cudaDeviceSynchronize", 30, 400_000, row="Context Sync")
    scene.kernel((400_010, 400_015), (400_020, 400_030))
    findings = findings_of(scene)
    assert causes_of(findings)[1][1] == (399_970.0, "unrecorded_work")
    assert findings.idle.lost_by_wait_us.tolist() == [0.0]


def test_a_wait_for_another_device_that_works_is_for_recorded_work() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.kernel((6, 9), (12, 400_000), device=1)
    scene.wait("cudaDeviceSynchronize", 30, 400_000, row="Context Sync")
    scene.kernel((400_010, 400_015), (400_020, 400_030))
    assert {cause for parts in causes_of(findings_of(scene)) for _, cause in parts} & {"unrecorded_work"} == set()


@pytest.mark.parametrize(("num_bytes", "unrecorded"), [(4, True), (50_000_000, False)])
def test_a_large_copy_through_pageable_memory_takes_its_time(num_bytes: int, unrecorded: bool) -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    number = scene.call("cudaMemcpyAsync", 30, 20_000)
    scene.works.append(Work("memcpy", "", 20_000, 20_040, number, num_bytes=num_bytes, copy="HtoD", memory="Pageable"))
    scene.wait("cudaStreamSynchronize", 20_001, 20_050)
    causes = {cause for _, cause in causes_of(findings_of(scene))[1]}
    assert ("unrecorded_work" in causes) == unrecorded


def test_a_slow_launch_that_began_before_the_gap_is_launch_overhead() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.kernel((15, 400), (402, 410))
    assert causes_of(findings_of(scene))[1] == [(382.0, "launch_overhead")]


def test_a_launch_that_takes_milliseconds_loaded_something_first() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.kernel((30, 30_000), (30_004, 30_010))
    assert causes_of(findings_of(scene))[1] == [
        (10.0, "launch_bound"),
        (29_970.0, "one_time_setup"),
        (4.0, "launch_overhead"),
    ]


SETUPS = ("cudaFree", "cudaMalloc", "cudaHostAlloc", "cudaEventCreateWithFlags", "cuModuleLoadData", "cudaStreamCreate")


@pytest.mark.parametrize("api", SETUPS)
def test_a_long_call_that_gives_no_work_is_set_up(api: str) -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.call(api, 30, 5030)
    scene.kernel((5040, 5045), (5050, 5060))
    assert (5000.0, "one_time_setup") in causes_of(findings_of(scene))[1]


@pytest.mark.parametrize(("api", "cause"), [("cudaFree", "allocator"), ("cudaEventCreate", "cpu_elsewhere")])
def test_what_steady_steps_do_again_is_paid_more_than_once(api: str, cause: Cause) -> None:
    scene = Scene()
    for step in range(5):
        begin = 10_000 * step
        scene.annotation(f"ProfilerStep#{step}", begin, begin + 9_900)
        scene.call(api, begin + 30, begin + 5030)
        scene.kernel((begin + 5040, begin + 5045), (begin + 5050, begin + 9800))
    sums = findings_of(scene).idle.by_cause_us()
    assert (sums["one_time_setup"], sums[cause] >= 20_000) == (5000.0, True)


@pytest.mark.parametrize(("number", "cause"), [(300, "allocator"), (8, "one_time_setup")])
def test_without_steps_what_goes_on_all_the_time_is_no_set_up(number: int, cause: Cause) -> None:
    scene = Scene()
    for i in range(number):
        scene.call("cudaMalloc", 1000 * i + 100, 1000 * i + 700)
        scene.kernel((1000 * i + 800, 1000 * i + 805), (1000 * i + 810, 1000 * i + 900), name=f"kernel {i}")
    scene.kernel((299_900, 299_905), (299_910, 299_990))
    assert findings_of(scene).idle.by_cause_us()[cause] == pytest.approx(600.0 * number)


def test_launches_into_a_graph_are_no_launches() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.call("cudaStreamBeginCapture", 30, 35)
    for start in range(40, 4000, 40):
        scene.call("cudaLaunchKernel", start, start + 10)
    scene.call("cudaStreamEndCapture", 4000, 4020)
    scene.call("cudaGraphInstantiate", 4030, 4530)
    scene.kernel((4540, 4545), (4550, 4560))
    findings = findings_of(scene)
    assert causes_of(findings)[1] == [
        (10.0, "launch_bound"),
        (3990.0, "graph_capture"),
        (10.0, "launch_bound"),
        (500.0, "graph_capture"),
        (10.0, "launch_bound"),
        (10.0, "launch_overhead"),
    ]
    assert (findings.launches.is_launch.sum(), findings.launches.num_captured) == (2, 99)


def test_the_data_loader_has_its_own_cause_whatever_it_does_inside() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.annotation("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 30, 9000)
    for start in range(40, 9000, 50):
        scene.op("aten::stack", start, start + 40)
    scene.kernel((9010, 9015), (9020, 9030))
    assert (8970.0, "data_loader") in causes_of(findings_of(scene))[1]


def test_a_gap_filled_by_operators_and_python_between_them_is_launch_bound() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    for start in range(20, 400, 80):
        scene.op("aten::view", start, start + 5)
    scene.op("aten::mm", 400, 412)
    scene.kernel((402, 410), (415, 420))
    assert causes_of(findings_of(scene))[1] == [(382.0, "launch_bound"), (13.0, "launch_overhead")]


def test_many_small_operators_without_a_launch_are_work_of_the_cpu() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    for start in range(20, 20_000, 40):
        scene.op("aten::mul", start, start + 35)
    scene.op("aten::mm", 20_000, 20_012)
    scene.kernel((20_002, 20_010), (20_015, 20_020))
    assert causes_of(findings_of(scene))[1] == [(19_982.0, "cpu_elsewhere"), (13.0, "launch_overhead")]


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
    causes = {cause: length for length, cause in causes_of(findings_of(scene))[1]}
    assert causes["cpu_elsewhere"] >= 950
    assert causes["launch_overhead"] == 13.0


def test_a_long_operator_that_calls_the_driver_is_issuing() -> None:
    scene = Scene()
    scene.op("aten::mm", 0, 6)
    scene.kernel((0, 5), (10, 20))
    scene.op("aten::convolution", 20, 1012)
    scene.kernel((1002, 1010), (1015, 1020))
    assert causes_of(findings_of(scene))[1] == [(982.0, "launch_bound"), (13.0, "launch_overhead")]


def test_the_ends_of_the_window_are_gaps_like_any_other() -> None:
    scene = Scene()
    scene.annotation("ProfilerStep#3", 0, 260_000)
    scene.frame("pre.py(12): preprocess", 20, 250_000)
    scene.op("aten::mm", 250_000, 250_012)
    scene.kernel((250_002, 250_010), (250_015, 250_020))
    findings = findings_of(scene)
    assert causes_of(findings) == [
        [(250_000.0, "cpu_elsewhere"), (2.0, "launch_bound"), (13.0, "launch_overhead")],
        [(9_980.0, "cpu_elsewhere")],
    ]
    assert (findings.window.start_us, findings.window.length_us) == (0.0, 260_000.0)


def test_work_whose_launch_is_missing_ends_a_gap_of_unknown_cause() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.kernel((30, 35), (40, 50))
    scene.calls.pop()
    assert causes_of(findings_of(scene))[1] == [(20.0, "unknown")]


def test_a_region_has_the_idle_time_that_fell_into_its_time() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.annotation("load", 1000, 61_000)
    scene.annotation("step", 61_000, 70_000)
    scene.op("aten::mm", 61_000, 61_012)
    scene.kernel((61_002, 61_010), (61_015, 61_020))
    rows = {row.path: row for row in region_times(findings_of(scene))}
    assert rows["load",].idle_by_cause_ms["cpu_elsewhere"] == pytest.approx(60.0)
    assert rows["load",].launches == 0
    assert rows["step",].gpu_idle_ms == pytest.approx(0.015 + 8.98), "and what comes after its work"


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
