"""Causes follow the thread that a person would look at, and the last line the stretch that it speaks of."""

from __future__ import annotations

import pytest

from bagel_perf.records.traces import CAUSES, TraceReport
from bagel_perf.report.trace_summary import next_line
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.tables import NONE
from trace_scenes import MAIN, Scene, Work, item
from trace_stories import causes_of, findings_of, trace_of

BACKWARD = MAIN + 1
LOADER = "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"


def report_of(scene: Scene) -> TraceReport:
    return analyse(trace_of(scene))


def burst(scene: Scene, start: int, *, thread: int = MAIN, length: int = 15) -> None:
    """Ten short kernels from a time on, which keep the device as good as busy."""
    for at in range(start, start + 200, 20):
        scene.op("aten::mm", at, at + 16, thread)
        scene.kernel((at + 1, at + 6), (at + 8, at + 8 + length), thread=thread)


def test_a_step_that_ends_in_backward_leaves_the_loader_to_the_main_thread() -> None:
    scene = Scene()
    for begin in range(0, 150_000, 30_000):
        scene.annotation(f"ProfilerStep#{begin // 30_000}", begin, begin + 30_000)
        scene.annotation(LOADER, begin + 100, begin + 20_100)
        burst(scene, begin + 20_200)
        burst(scene, begin + 20_600, thread=BACKWARD)
        scene.frame("train.py(9): log_metrics", begin + 21_000, begin + 29_900)
    report = report_of(scene)
    assert report.idle_by_cause_ms["data_loader"] == pytest.approx(100.0, rel=0.01)
    assert any("log_metrics" in culprit.what for culprit in report.culprits)


def test_what_comes_after_the_last_work_is_the_main_threads() -> None:
    scene = Scene()
    burst(scene, 0)
    burst(scene, 300, thread=BACKWARD)
    scene.call("cudaFree", 700, 9700)
    scene.annotation(LOADER, 9800, 26_800)
    assert causes_of(findings_of(scene))[-1][1:] == [
        (9000.0, "one_time_setup"),
        (100.0, "cpu_elsewhere"),
        (17_000.0, "data_loader"),
    ]


def test_a_thread_that_launches_into_anothers_capture_captures() -> None:
    scene = Scene()
    burst(scene, 0)
    scene.call("cudaStreamBeginCapture", 300, 305)
    for at in range(310, 1310, 20):
        scene.call("cudaLaunchKernel", at, at + 5)
    for at in range(1310, 3310, 20):
        scene.call("cudaLaunchKernel", at, at + 5, BACKWARD)
    scene.call("cudaStreamEndCapture", 3320, 3330)
    burst(scene, 3400)
    report = report_of(scene)
    assert (report.launches, report.captured_launches, report.launches_without_work) == (20, 150, 0)
    assert report.idle_by_cause_ms["graph_capture"] == pytest.approx(3.03, abs=0.01)


def test_a_launch_inside_a_capture_that_gives_work_is_a_launch() -> None:
    scene = Scene()
    scene.call("cudaStreamBeginCapture", 0, 5)
    scene.call("cudaLaunchKernel", 10, 15)
    scene.kernel((20, 25), (30, 40), stream=20)
    scene.call("cudaStreamEndCapture", 50, 55)
    report = report_of(scene)
    assert (report.launches, report.captured_launches) == (1, 1)


def test_driver_calls_inside_runtime_calls_are_found_on_their_own_thread() -> None:
    scene = Scene()
    for at in range(0, 4000, 20):
        for thread, shift in ((MAIN, 0), (BACKWARD, 3)):
            scene.call("cudaLaunchKernelExC", at + shift, at + shift + 10, thread)
            number = scene.call("cuLaunchKernelEx", at + shift + 1, at + shift + 8, thread)
            scene.works.append(Work("kernel", "gemm", at + 12 + shift, at + 14 + shift, number))
    report = report_of(scene)
    assert (report.launches, report.launches_without_work) == (400, 0)
    assert not any("LAUNCHES WITHOUT WORK" in warning for warning in report.warnings)


def test_polling_is_not_issuing() -> None:
    scene = Scene()
    burst(scene, 0)
    for at in range(300, 10_300, 30):
        scene.call("cudaEventQuery", at, at + 5)
    burst(scene, 10_400)
    assert report_of(scene).idle_by_cause_ms["cpu_elsewhere"] == pytest.approx(10.2, abs=0.1)


def test_a_stream_wait_is_taken_by_the_first_launch_after_it() -> None:
    scene = Scene()
    burst(scene, 0)
    scene.call("cudaStreamWaitEvent", 250, 252)
    scene.kernel((255, 260), (262, 300), stream=30)
    scene.kernel((310, 315), (9000, 9010))
    parts = findings_of(scene).idle.parts
    longest = parts.length_us.argmax()
    assert (CAUSES[parts.cause[longest]], parts.call[longest]) == ("queued", NONE)


def test_launches_that_wait_are_said_and_are_no_set_up() -> None:
    scene = Scene()
    for at in range(0, 60_000, 3_000):
        scene.kernel((at, at + 2_900), (at + 10, at + 2_890))
    report = report_of(scene)
    assert any(warning.startswith("LAUNCHES WAIT: 100%") for warning in report.warnings)
    assert report.idle_by_cause_ms["one_time_setup"] == 0.0


def test_waits_that_return_before_their_copy_ends_show_clocks_that_disagree() -> None:
    scene = Scene()
    for at in range(0, 2000, 100):
        item(scene, at, (at + 50, at + 70), at + 30)
    assert any(warning.startswith("CLOCKS DISAGREE: waits return 40 us") for warning in report_of(scene).warnings)


def test_a_device_without_work_in_the_window_is_idle_in_it() -> None:
    scene = Scene()
    burst(scene, 0)
    scene.annotation("bagel_perf.window", 5000, 6000)
    report = report_of(scene)
    assert (report.gpu_busy_ms, report.gpu_idle_ms) == pytest.approx((0.0, 1.0))
    assert next_line(report).startswith("next: ")


def warmed_up(warm_up: int, step: int) -> Scene:
    """A first step in which something is compiled, and nine in which something is tokenized; times in us."""
    scene = Scene()
    begin = 0
    for number in range(10):
        length = warm_up if number == 0 else step
        name = "compile.py(3): compile_all" if number == 0 else "tok.py(3): tokenize"
        scene.annotation(f"ProfilerStep#{number}", begin, begin + length + 400)
        scene.frame(name, begin, begin + length)
        burst(scene, begin + length, length=19)
        begin += length + 400
    return scene


def test_the_last_line_names_what_the_steady_steps_were_in() -> None:
    line = next_line(report_of(warmed_up(900_000, 5_000)))
    assert "in the steady steps" in line and "tokenize" in line and "compile" not in line


def test_the_last_line_names_the_warm_up_where_the_steps_are_busy() -> None:
    scene = Scene()
    scene.annotation("ProfilerStep#0", 0, 900_100)
    scene.frame("compile.py(3): compile_all", 0, 900_000)
    scene.kernel((900_000, 900_005), (900_010, 900_100))
    for begin in range(900_100, 945_100, 5_000):
        scene.annotation(f"ProfilerStep#{begin}", begin, begin + 5_000)
        scene.kernel((begin, begin + 5), (begin + 10, begin + 4_990))
    line = next_line(report_of(scene))
    assert line.startswith("next: the steady steps are busy (") and "compile_all" in line and "warm up" in line


def test_the_last_line_speaks_of_all_where_most_lies_outside_of_the_steps() -> None:
    scene = warmed_up(5_000, 1_000)
    scene.op("aten::mm", 30_000, 30_010)
    scene.frame("val.py(3): decode", 20_000, 520_000)
    scene.annotation("validate", 20_000, 520_000)
    line = next_line(report_of(scene))
    assert "most of it outside of the steady steps" in line and "decode" in line


def test_communication_is_named_though_the_gpu_is_idle_too() -> None:
    scene = Scene()
    for at in range(0, 100_000, 10_000):
        scene.kernel((at, at + 5), (at + 10, at + 2_000))
        scene.kernel((at + 20, at + 25), (at + 2_000, at + 9_000), name="ncclDevKernel_AllReduce")
    line = next_line(report_of(scene))
    assert line.startswith("next: 78% of the busy time is communication with nothing computed beside")
