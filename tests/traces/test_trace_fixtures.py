"""Traces that torch recorded on an H100 and on a CPU say what the script did that was recorded.

Per step the script gathers and scatters by a mask, reads a scalar, uploads a list from pageable memory, starts one
pageable and one pinned copy without waiting, and synchronizes an event; in the end it synchronizes the device, copies
to the host, and synchronizes again. The first trace has two such steps and a third that ends after the read, others
have two. In the graph trace three replays of ten kernels are each followed by a fill and a read.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bagel_perf.records.traces import TraceReport
from bagel_perf.traces.against import difference
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats.reading import read_trace

FOLDER = Path(__file__).resolve().parents[1] / "data" / "traces"
MEASURED = Path(__file__).resolve().parents[2] / "reports" / "predicted-savings"

TWO_STEPS = {
    "explicit_sync": 4,
    "scalar_read": 2,
    "mask_gather": 2,
    "mask_scatter": 2,
    "pageable_upload": 2,
    "d2h_copy": 1,
}


def report_of(name: str) -> TraceReport:
    return analyse(read_trace(FOLDER / f"{name}.json.gz"))


def test_counts_on_an_h100_are_those_of_the_script() -> None:
    report = report_of("torch211_h100")
    more = {"scalar_read": 3, "mask_gather": 3, "mask_scatter": 3}
    assert report.syncs_by_kind == TWO_STEPS | more
    assert (report.profiler_syncs, report.stream_waits, report.pageable_copies, report.unmatched_markers) == (
        1,
        2,
        2,
        0,
    )
    assert report.warnings == ()
    # Every kernel was launched by a call that is in the trace; an .item() on an H100 reads into pinned memory.
    assert report.launches == sum(kernel.count for kernel in report.kernels) == 99
    assert report.idle_by_cause_ms["unknown"] == 0
    (upload,) = (site for site in report.sites if site.kind == "pageable_upload")
    assert (upload.op, upload.count) == ("aten::to > aten::copy_", 2)


def test_the_gpu_of_that_trace_starves_for_the_host_and_not_for_its_waits() -> None:
    report = report_of("torch211_h100")
    # The kernels take 2 to 10 us each and the host 20 to 50 us to launch one: waits of 6 to 24 us cost that much each.
    assert report.gpu_busy_ms == pytest.approx(1.131, abs=0.001)
    assert report.lost_gpu_ms == pytest.approx(0.947, abs=0.001)
    assert report.predicted_saving_ms == pytest.approx((0.397, 0.583), abs=0.005)
    assert report.idle_by_cause_ms["cpu_elsewhere"] > 2.0  # a sleep of 1 ms in each of two steps


def test_stacks_name_the_function_and_sleep_fills_the_worst_gaps() -> None:
    report = report_of("torch211_h100_stacks")
    assert report.syncs_by_kind == TWO_STEPS
    functions = {(site.file, site.function) for site in report.sites}
    assert functions == {("traces.py", "loop"), ("traces.py", "trace")}
    longest = [max(gap.parts, key=lambda part: part.duration_ms) for gap in report.gaps[:3]]
    assert [part.what for part in longest[1:]] == ["traces.py(14): loop > sleep"] * 2
    assert [part.duration_ms for part in longest[1:]] == pytest.approx([1.42, 1.29], abs=0.01)
    # The trace begins with the first random number, before anything was launched.
    assert longest[0].what == "traces.py(14): loop > randn: aten::randn > aten::normal_"


def test_without_sync_events_the_same_waits_are_found_in_the_calls() -> None:
    report = report_of("torch211_h100_without_sync_events")
    assert report.syncs_by_kind == TWO_STEPS
    assert [warning.split(":")[0] for warning in report.warnings] == ["NO SYNC EVENTS"]


def test_kernels_of_graphs_are_charged_to_their_replays() -> None:
    report = report_of("torch211_h100_graphs")
    assert (report.graph_launches, report.launches) == (3, 6)
    assert report.syncs_by_kind == {"scalar_read": 3, "explicit_sync": 1}
    assert "30 activities" in report.warnings[0]
    assert report.is_idle_reliable
    # The queries of events in this trace have cuda_sync rows too, and are no waits.
    assert report.host_syncs == 4


def test_waits_of_a_thread_that_has_the_address_of_an_ended_one_are_its_own() -> None:
    """The recorder gives the first worker's calls the number of the early thread, which had ended."""
    trace = read_trace(FOLDER / "torch211_h100_threads.json.gz")
    report = analyse(trace)
    counts = {region.path: region.host_syncs for region in report.regions if region.path}
    assert counts == {("worker early",): 4, ("worker 0",): 4, ("worker 1",): 4, ("worker 2",): 4}
    assert {site.op.split(" > ")[0] for site in report.sites} == {"aten::item"}
    assert (report.unmatched_markers, report.syncs_by_kind) == (0, {"scalar_read": 16})
    assert len(set(trace.calls.thread.tolist())) == 5


def test_a_trace_of_the_cpu_alone_counts_waits_by_calls() -> None:
    report = report_of("torch211_cpu_only")
    assert report.host_syncs == 12
    assert report.profiler_syncs == 0
    assert report.warnings[0].startswith("NO GPU EVENTS")


@pytest.mark.parametrize("name", ["torch213_cpu_stacks", "torch214_cpu_stacks"])
def test_traces_of_a_machine_without_gpu_are_read_with_their_regions(name: str) -> None:
    trace = read_trace(FOLDER / f"{name}.json.gz")
    report = analyse(trace)
    assert {(region.path, region.calls) for region in report.regions if region.path} == {
        (("forward",), 2),
        (("backward",), 2),
    }
    assert (report.host_syncs, report.launches, report.lost_gpu_ms) == (None, None, None)
    assert len(report.warnings) == 2
    assert len(trace.frames) > 100


def test_since_2_14_frames_name_the_line_that_called_them() -> None:
    trace = read_trace(FOLDER / "torch214_cpu_stacks.json.gz")
    item = next(
        row
        for row in range(len(trace.frames))
        if trace.names[trace.frames.name[row]].startswith("<built-in method item ")
    )
    assert trace.names[trace.frames.caller[item]] == "cputrace.py:11"
    assert (read_trace(FOLDER / "torch213_cpu_stacks.json.gz").frames.caller == -1).all()


def test_the_difference_of_two_real_traces_is_the_reads_and_their_copies() -> None:
    before, after = (analyse(read_trace(MEASURED / f"mixed_{name}_waits.json.gz")) for name in ("with", "without"))
    found = difference(after, before)
    assert [(row.change, row.kind, row.count_before) for row in found.syncs] == [("gone", "scalar_read", 6)]
    assert found.kernels == ()
    (step, *_) = (row for row in found.regions if row.path == ("step",))
    assert (step.calls_before, step.calls_after, step.host_syncs_after) == (6, 6, 0)
