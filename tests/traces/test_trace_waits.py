"""Each wait of the host is counted once, with its kind, place, region and marker."""

from __future__ import annotations

import pytest

from bagel_perf.traces.names import kind_of
from bagel_perf.traces.tables import DEVICE_TO_HOST, HOST_TO_DEVICE, NONE, CallSite
from bagel_perf.traces.trace import Api, api_of
from bagel_perf.traces.waits import program_site
from trace_scenes import MAIN, Scene, Sync, item, two_steps
from trace_stories import findings_of, kinds_of, trace_of


def test_a_read_of_one_scalar_is_one_wait() -> None:
    scene = Scene()
    item(scene, 10, (30, 32), 40)
    findings = findings_of(scene)
    assert kinds_of(findings) == ["scalar_read"]
    waits = findings.waits
    # Pinned memory: the copy call only launches, the wait is the synchronization.
    assert (waits.start_us.tolist(), waits.end_us.tolist(), waits.begun_us.tolist()) == ([9.0], [30.0], [3.0])
    assert findings.op_of(0) == "aten::item > aten::_local_scalar_dense"


def test_a_driver_call_inside_a_runtime_call_is_the_same_wait() -> None:
    scene = Scene()
    scene.kernel((0, 4), (6, 40))
    scene.wait("cudaStreamSynchronize", 10, 50)
    scene.wait("cuStreamSynchronize", 12, 48, row=None)
    assert kinds_of(findings_of(scene)) == ["explicit_sync"]


def test_blocking_copies_count_but_not_those_between_devices_nor_asynchronous_ones() -> None:
    scene = Scene()
    scene.memcpy((0, 20), (5, 15), "DtoH", api="cudaMemcpy")
    scene.memcpy((30, 50), (35, 45), "DtoD", api="cudaMemcpy")
    scene.memcpy((60, 64), (70, 75), "DtoH")
    scene.kernel((80, 84), (86, 90))
    findings = findings_of(scene)
    assert kinds_of(findings) == ["d2h_copy"]
    assert findings.waits.blocked_us.tolist() == [20.0]


@pytest.mark.parametrize(
    "name", ["cudaEventQuery", "cudaStreamQuery", "cudaStreamWaitEvent", "cudaLaunchHostFunc", "cudaMalloc", "cudaFree"]
)
def test_queries_allocations_and_waits_of_streams_are_no_waits(name: str) -> None:
    scene = Scene()
    # Kineto writes a cuda_sync row even for a query of an event.
    scene.wait(name, 0, 10, row="Stream Wait Event" if "Wait" in name else "Event Sync")
    scene.kernel((20, 24), (26, 30))
    findings = findings_of(scene)
    assert len(findings.waits) == 0
    assert findings.trace.num_stream_waits == ("Wait" in name)


def test_a_wait_inside_an_allocation_belongs_to_the_allocation() -> None:
    scene = Scene()
    scene.call("cudaFree", 0, 100)
    scene.wait("cuCtxSynchronize", 10, 90, row="Context Sync")
    scene.kernel((120, 124), (126, 130))
    assert len(findings_of(scene).waits) == 0


def test_rows_of_the_gpu_side_are_waits_where_the_trace_has_no_call_for_them() -> None:
    scene = two_steps()
    scene.calls = [call for call in scene.calls if "Synchronize" not in call.name]
    findings = findings_of(scene)
    names = [findings.trace.names[name] for name in findings.waits.name]
    # Without its call the wait in the end cannot be told from others, and counts.
    assert names == ["Stream Sync", "Stream Sync", "Context Sync"]
    assert kinds_of(findings) == ["scalar_read", "scalar_read", "explicit_sync"]
    scene.calls.clear()
    assert kinds_of(findings_of(scene)) == ["scalar_read", "scalar_read", "explicit_sync"]


def test_a_wait_for_a_pageable_copy_begins_with_the_copy() -> None:
    scene = Scene()
    scene.kernel((0, 4), (6, 30))
    scene.op("aten::copy_", 40, 120)
    scene.memcpy((42, 100), (50, 60), "DtoH", memory="Pageable")
    scene.wait("cudaStreamSynchronize", 101, 104)
    findings = findings_of(scene)
    assert kinds_of(findings) == ["d2h_copy"]
    assert findings.waits.blocked_us.tolist() == [62.0]


def test_a_copy_of_an_earlier_operator_is_not_what_a_later_synchronization_waits_for() -> None:
    scene = Scene()
    scene.op("aten::copy_", 0, 12)
    scene.memcpy((2, 8), (20, 40), "DtoH")
    scene.wait("cudaStreamSynchronize", 14, 50)
    scene.kernel((60, 64), (66, 70))
    findings = findings_of(scene)
    assert kinds_of(findings) == ["explicit_sync"]
    assert findings.waits.copy.tolist() == [NONE]


def test_a_launch_between_a_copy_and_a_wait_parts_them() -> None:
    scene = Scene()
    scene.op("aten::copy_", 0, 60)
    scene.memcpy((2, 8), (10, 12), "DtoH")
    scene.kernel((14, 18), (20, 40))
    scene.wait("cudaStreamSynchronize", 20, 50)
    assert findings_of(scene).waits.copy.tolist() == [NONE]


def test_the_profilers_last_wait_is_left_out_and_only_that_one() -> None:
    scene = two_steps()
    findings = findings_of(scene)
    assert (len(findings.waits), findings.waits.num_profiler_syncs) == (2, 1)
    scene.kernel((390, 394), (396, 400))  # then it was the program's
    findings = findings_of(scene)
    assert (len(findings.waits), findings.waits.num_profiler_syncs) == (3, 0)


def test_with_frames_of_python_the_profilers_wait_has_to_stand_in_the_profiler() -> None:
    scene = two_steps()
    scene.frame("train.py(3): main", 0, 400)
    assert findings_of(scene).waits.num_profiler_syncs == 0
    scene.frame("torch/autograd/profiler.py(367): __exit__", 375, 395)
    assert findings_of(scene).waits.num_profiler_syncs == 1


def test_a_last_wait_inside_an_operator_is_the_programs() -> None:
    scene = two_steps()
    scene.op("aten::some_op", 376, 390)
    assert findings_of(scene).waits.num_profiler_syncs == 0


def test_a_row_of_the_gpu_side_inside_a_wait_is_that_wait_whatever_its_number() -> None:
    scene = Scene()
    scene.kernel((0, 4), (6, 40))
    scene.wait("cudaStreamSynchronize", 10, 50, row=None)
    scene.syncs.append(Sync("Stream Sync", 12, 48, 999))
    assert len(findings_of(scene).waits) == 1


def test_operators_without_length_enclose_nothing_and_hide_nothing() -> None:
    scene = Scene()
    scene.op("aten::view", 10, 10)
    item(scene, 10, (30, 32), 40)
    scene.op("aten::view", 19, 19)
    assert findings_of(scene).op_of(0) == "aten::item > aten::_local_scalar_dense"


def test_a_launch_inside_a_launch_is_one() -> None:
    scene = Scene()
    scene.kernel((0, 20), (30, 40))
    scene.call("cuLaunchKernel", 5, 15)
    scene.kernel((50, 60), (70, 80))
    assert int(findings_of(scene).launches.is_launch.sum()) == 2


def test_without_gpu_events_the_profiler_does_not_wait() -> None:
    scene = two_steps()
    scene.works.clear()
    assert len(findings_of(scene).waits) == 3


def test_a_wait_takes_the_marker_right_before_it_and_no_older_one() -> None:
    scene = Scene()
    scene.op("bagel_perf.wait 7", 8, 9)
    item(scene, 10, (30, 32), 40)
    item(scene, 50, (70, 72), 80)
    scene.op("bagel_perf.wait 3", 90, 91)
    scene.op("bagel_perf.wait 4", 92, 93)
    scene.op("bagel_perf.wait 5", 94, 95, MAIN + 1)
    item(scene, 100, (120, 122), 130)
    scene.op("bagel_perf.wait 9", 140, 141)
    findings = findings_of(scene)
    assert findings.waits.marker.tolist() == [7, NONE, 4]
    assert sorted(findings.waits.unmatched_markers.tolist()) == [3, 5]  # 9 lies outside of the window
    assert "bagel_perf.wait 4" not in {findings.trace.names[name] for name in findings.trace.ops.name}


def test_the_region_of_a_wait_is_the_path_of_annotations_on_its_thread() -> None:
    scene = two_steps()
    scene.annotation("elsewhere", 0, 400, MAIN + 1)
    findings = findings_of(scene)
    assert [findings.regions.paths[region] for region in findings.waits.region] == [
        ("ProfilerStep",),
        ("ProfilerStep",),
    ]


def test_backward_threads_take_the_region_of_the_thread_that_waits_for_them() -> None:
    scene = Scene()
    scene.annotation("backward", 0, 100)
    scene.op("autograd::engine::evaluate_function: MmBackward0", 10, 40, MAIN + 1)
    scene.kernel((12, 16), (20, 30), thread=MAIN + 1)
    scene.op("aten::mm", 10, 40, MAIN + 2)
    scene.kernel((50, 54), (56, 60), thread=MAIN + 2)
    findings = findings_of(scene)
    paths = [findings.regions.paths[region] for region in findings.launches.region]
    assert paths == [("backward",), ()]


def test_a_marked_window_hides_what_lies_outside_and_is_no_region() -> None:
    scene = two_steps()
    scene.annotation("bagel_perf.window", 175, 375)
    findings = findings_of(scene)
    assert len(findings.waits) == 1
    assert [findings.regions.paths[region] for region in findings.waits.region] == [("ProfilerStep",)]
    assert (findings.window.length_us, findings.window.is_marked) == (200.0, True)


def test_lines_are_those_of_the_innermost_frame_of_the_program() -> None:
    scene = two_steps()
    for name, start, end in (
        ("train.py(3): main", 0, 400),
        ("model/attention.py(17): forward", 60, 156),
        ("torch/_ops.py(1257): __call__", 61, 155),
        ("<built-in method item of Tensor object at 0x7f>", 62, 154),
        ("torch/autograd/profiler.py(1): __exit__", 376, 390),
    ):
        scene.frame(name, start, end)
    findings = findings_of(scene)
    assert findings.site_of(0) == CallSite(file="model/attention.py", line=17, function="forward")
    assert findings.site_of(1) == CallSite(file="train.py", line=3, function="main")


@pytest.mark.parametrize(
    ("frame", "file"),
    [
        ("trace.py(9): f", "trace.py"),
        ("/home/x/my torch.py(9): f", "/home/x/my torch.py"),
        ("torch/cuda/__init__.py(9): synchronize", None),
        ("/usr/lib/python3/site-packages/torch/_tensor.py(9): f", None),
        ("contextlib.py(85): inner", None),
        ("nn.Module: Linear_0", None),
        ("<string>(1): f", None),
        ("<built-in function len>", None),
    ],
)
def test_frames_of_libraries_and_built_in_ones_are_no_lines_of_the_program(frame: str, file: str | None) -> None:
    site = program_site(frame)
    assert (site and site.file) == file


@pytest.mark.parametrize(
    ("name", "api"),
    [
        ("cudaStreamSynchronize_v3020", Api.WAIT_STREAM),
        ("cudaStreamSynchronize_ptsz_v7000", Api.WAIT_STREAM),
        ("cuCtxSynchronize", Api.WAIT_DEVICE),
        ("hipDeviceSynchronize", Api.WAIT_DEVICE),
        ("cudaThreadSynchronize", Api.WAIT_DEVICE),
        ("cudaEventSynchronize", Api.WAIT_EVENT),
        ("cudaMemcpy2DAsync_v3020", Api.COPY_ASYNC),
        ("cuMemcpyHtoDAsync_v2", Api.COPY_ASYNC),
        ("cudaMemcpyToSymbol", Api.WAIT_COPY),
        ("hipMemcpyWithStream", Api.WAIT_COPY),
        ("cuLaunchKernelEx", Api.LAUNCH),
        ("cudaLaunchCooperativeKernel", Api.LAUNCH),
        ("hipExtModuleLaunchKernel", Api.LAUNCH),
        ("cudaLaunchHostFunc", Api.OTHER),
        ("cudaGraphLaunch_v10000", Api.GRAPH_LAUNCH),
        ("cudaMallocAsync", Api.OTHER),
        ("cudaFreeHost", Api.ALLOCATOR),
        ("cuMemMap", Api.ALLOCATOR),
        ("cudaEventQuery", Api.OTHER),
        ("cudaStreamWaitEvent", Api.OTHER),
    ],
)
def test_calls_are_told_apart_by_name(name: str, api: Api) -> None:
    assert api_of(name) == api


@pytest.mark.parametrize(
    ("operators", "api", "direction", "pageable", "kind"),
    [
        (("aten::is_nonzero", "aten::item", "aten::_local_scalar_dense"), Api.WAIT_STREAM, 2, False, "scalar_read"),
        (("aten::index", "aten::nonzero"), Api.WAIT_STREAM, DEVICE_TO_HOST, False, "mask_gather"),
        (("aten::masked_select", "aten::index", "aten::nonzero"), Api.WAIT_STREAM, NONE, False, "mask_gather"),
        (("aten::index_put_", "aten::_index_put_impl_", "aten::nonzero"), Api.WAIT_STREAM, 2, False, "mask_scatter"),
        (("aten::nonzero",), Api.WAIT_STREAM, DEVICE_TO_HOST, False, "nonzero"),
        (("aten::unique_dim", "aten::_unique2"), Api.WAIT_STREAM, DEVICE_TO_HOST, False, "nonzero"),
        (("aten::to", "aten::copy_"), Api.WAIT_STREAM, DEVICE_TO_HOST, True, "d2h_copy"),
        (("aten::to", "aten::copy_"), Api.WAIT_STREAM, HOST_TO_DEVICE, True, "pageable_upload"),
        ((), Api.WAIT_COPY, HOST_TO_DEVICE, True, "pageable_upload"),
        ((), Api.WAIT_DEVICE, NONE, False, "explicit_sync"),
        (("## forward ##",), Api.WAIT_EVENT, NONE, False, "explicit_sync"),
        (("c10d::allreduce_",), Api.WAIT_EVENT, NONE, False, "unknown"),
        ((), Api.WAIT_COPY, NONE, False, "unknown"),
    ],
)
def test_the_kind_follows_from_operators_and_copy(
    operators: tuple[str, ...], api: Api, direction: int, pageable: bool, kind: str
) -> None:
    assert kind_of(operators, api, direction, pageable=pageable) == kind


def test_threads_with_the_same_number_in_two_processes_are_two() -> None:
    trace = trace_of(two_steps())
    assert trace.threads == ("thread 100",)
