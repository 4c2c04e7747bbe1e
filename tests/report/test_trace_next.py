"""The last line of a trace follows the cause of its idle time, and warnings say first what was not recorded."""

from __future__ import annotations

import io

import pytest

from bagel_perf.records.traces import Cause, TraceReport
from bagel_perf.report.trace_summary import print_trace
from bagel_perf.traces.analyse import analyse
from trace_scenes import Scene, item
from trace_stories import trace_of


def queued() -> Scene:
    scene = started()
    scene.call("cudaStreamWaitEvent", 40, 42)
    scene.kernel((50, 55), (100_020, 100_030), stream=8)
    return finished(scene, 100_040)


def unrecorded() -> Scene:
    scene = started()
    item(scene, 60, (400_090, 400_092), 400_095)
    return finished(scene, 400_120)


def captured() -> Scene:
    scene = started()
    scene.call("cudaStreamBeginCapture", 50, 55)
    for start in range(60, 15_050, 50):
        scene.op("aten::mul", start, start + 40)
        scene.call("cudaLaunchKernel", start + 5, start + 15)
    scene.call("cudaStreamEndCapture", 15_100, 15_120)
    scene.call("cudaGraphInstantiate", 15_130, 15_630)
    return finished(scene, 15_700)


def set_up() -> Scene:
    scene = started()
    scene.op("aten::conv2d", 30, 900_130)
    scene.call("cudaFree", 40, 900_040)
    return finished(scene, 900_050)


def preprocessed() -> Scene:
    scene = Scene()
    scene.annotation("ProfilerStep#5", 0, 260_000)
    scene.frame("pre.py(12): preprocess", 20, 250_020)
    scene.wait("cudaDeviceSynchronize", 5, 15, row="Context Sync")
    return finished(scene, 250_100)


def loaded() -> Scene:
    scene = Scene()
    for begin in range(0, 280_000, 70_000):
        scene.annotation(f"ProfilerStep#{begin // 70_000}", begin, begin + 70_000)
        scene.annotation("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", begin + 10, begin + 60_010)
        finished(scene, begin + 60_100)
    return scene


def allocating() -> Scene:
    scene = Scene()
    for step in range(4):
        begin = 20_000 * step
        scene.annotation(f"ProfilerStep#{step}", begin, begin + 19_000)
        scene.op("aten::empty", begin + 5, begin + 15_010)
        scene.call("cudaMalloc", begin + 10, begin + 15_000)
        finished(scene, begin + 15_010)
    return scene


def read_then_python() -> Scene:
    scene = started()
    item(scene, 30, (40, 42), 46)
    scene.frame("next.py(3): preprocess", 60, 500_000)
    return finished(scene, 500_010)


def started() -> Scene:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    return scene


def finished(scene: Scene, start: int) -> Scene:
    """The scene with five short kernels from a time on."""
    for at in range(start, start + 100, 20):
        scene.op("aten::mul", at, at + 16)
        scene.kernel((at + 1, at + 6), (at + 10, at + 18))
    return scene


def text_of(report: TraceReport) -> str:
    stream = io.StringIO()
    print_trace(report, 10, stream)
    return stream.getvalue()


STORIES = {
    "queued": (queued(), "queued", 99.9, "cudaStreamWaitEvent", "faster launches would not help"),
    "unrecorded": (unrecorded(), "unrecorded_work", 399.9, "aten::item", "record what is missing"),
    "captured": (captured(), "graph_capture", 15.57, "cudaStreamBeginCapture", "capture before the steps that count"),
    "set_up": (set_up(), "one_time_setup", 900.0, "aten::conv2d > cudaFree", "it is paid once"),
    "preprocessed": (preprocessed(), "cpu_elsewhere", 259.6, "pre.py(12): preprocess", "see what the CPU does"),
    "loaded": (loaded(), "data_loader", 240.0, "enumerate(DataLoader)", "num_workers"),
    "allocating": (allocating(), "allocator", 44.97, "cudaMalloc", "no empty_cache()"),
    "read_then_python": (read_then_python(), "cpu_elsewhere", 499.9, "next.py(3): preprocess", "see what the CPU does"),
}


@pytest.mark.parametrize("name", STORIES)
def test_the_cause_stands_in_the_figures_the_table_and_the_last_line(name: str) -> None:
    scene, cause, idle_ms, what, advice = STORIES[name]
    report = analyse(trace_of(scene))
    causes: dict[Cause, float] = report.idle_by_cause_ms
    assert max(causes, key=lambda each: causes[each]) == cause
    assert causes[cause] == pytest.approx(idle_ms, rel=0.002)
    assert sum(causes.values()) == pytest.approx(report.gpu_idle_ms)
    text = text_of(report)
    assert what in text and what.split(" > ")[0][:20] in text.splitlines()[-1]
    assert text.splitlines()[-1].startswith("next: ") and advice in text.splitlines()[-1]


def test_unrecorded_work_is_said_before_any_figure_and_leaves_no_predicted_saving() -> None:
    report = analyse(trace_of(unrecorded()))
    assert report.warnings[0].startswith("WORK NOT RECORDED: the host waited 399.")
    assert report.predicted_saving_ms is None and report.lost_gpu_ms == pytest.approx(0.1, abs=0.1)
    assert any("no predicted savings: the host waited" in note for note in report.notes)
    assert text_of(report).splitlines()[1].startswith("WARNING: WORK NOT RECORDED")


def test_a_trace_that_begins_in_a_wait_says_so_and_warns_of_nothing() -> None:
    scene = Scene()
    scene.wait("cudaDeviceSynchronize", 0, 3000, row="Context Sync")
    report = analyse(trace_of(finished(scene, 3010)))
    assert not any("NOT RECORDED" in warning for warning in report.warnings)
    assert any(note.startswith("the trace begins with 3.00 ms in waits") for note in report.notes)


def test_launches_without_work_are_said_before_any_figure() -> None:
    scene = finished(Scene(), 0)
    for start in range(110, 310, 20):
        scene.call("cudaLaunchKernel", start, start + 5)
    report = analyse(trace_of(finished(scene, 400)))
    assert report.warnings[0].startswith("LAUNCHES WITHOUT WORK: of 20 launches 10 show no kernel")
    assert (report.launches, report.launches_without_work) == (20, 10)


def test_captured_launches_are_no_launches() -> None:
    report = analyse(trace_of(captured()))
    assert (report.launches, report.captured_launches, report.launches_without_work) == (6, 300, 0)
    assert any(note.startswith("300 launches were captured") for note in report.notes)


def test_an_idle_time_and_a_predicted_saving_that_differ_are_explained() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 9000))
    item(scene, 30, (9000, 9002), 9005)
    scene.op("aten::ones", 9020, 18_000)
    report = analyse(trace_of(finished(scene, 18_010)))
    assert report.predicted_saving_ms is not None and report.lost_gpu_ms is not None
    assert report.predicted_saving_ms[0] > 3 * report.lost_gpu_ms
    assert any(
        line.startswith("- idle caused (") and "the predicted saving (" in line for line in text_of(report).splitlines()
    )


def test_a_busy_gpu_that_communicates_is_told_so() -> None:
    scene = Scene()
    scene.kernel((0, 5), (6, 5000), name="gemm")
    scene.kernel(
        (10, 15), (5000, 9000), name="ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
    )
    scene.memcpy((20, 25), (9000, 9900), "HtoD")
    report = analyse(trace_of(scene))
    (device,) = report.devices
    times = (device.compute_ms, device.exposed_communication_ms, device.exposed_copy_ms)
    assert times == pytest.approx((4.994, 4.0, 0.9))
    lines = text_of(report).splitlines()
    assert "of the busy time nothing was computed beside 4.00 ms of communication and 0.90 ms of copies" in lines
    assert lines[-1].startswith(
        "next: the GPU is busy; 40% of the busy time is communication with nothing computed beside"
    )


def test_communication_beside_work_is_not_exposed() -> None:
    scene = Scene()
    scene.kernel((0, 5), (6, 5000), name="gemm")
    scene.kernel((10, 15), (1000, 4000), name="rccl_main_kernel", stream=20)
    (device,) = analyse(trace_of(scene)).devices
    assert (device.exposed_communication_ms, device.exposed_copy_ms) == (0.0, 0.0)
