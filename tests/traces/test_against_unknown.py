"""What one of two traces does not tell is an unknown change, never a gain or a loss."""

from __future__ import annotations

import io

import pytest
from msgspec.structs import replace

from bagel_perf.records.trace_differences import TraceDifference
from bagel_perf.records.traces import TraceReport
from bagel_perf.report.text import print_document
from bagel_perf.report.trace_changes import change_lines, change_tables
from bagel_perf.traces.against import difference
from bagel_perf.traces.analyse import analyse
from trace_scenes import Scene, two_steps
from trace_stories import trace_of


def report_of(scene: Scene) -> TraceReport:
    return analyse(trace_of(scene))


def without_calls() -> TraceReport:
    """As a trace without calls of the runtime: nothing is known of waits."""
    scene = two_steps()
    scene.calls.clear()
    scene.syncs.clear()
    return report_of(scene)


def without_work() -> TraceReport:
    scene = two_steps()
    scene.works.clear()
    return report_of(scene)


def shown(found: TraceDifference) -> str:
    stream = io.StringIO()
    print_document(stream, change_tables(found, 10), change_lines(found))
    return stream.getvalue()


@pytest.mark.parametrize("turned", [False, True])
def test_waits_that_one_trace_does_not_tell_are_unknown(turned: bool) -> None:
    pair = [without_calls(), report_of(two_steps())]
    found = difference(*(pair[::-1] if turned else pair))
    assert {row.change for row in found.syncs} == {"unknown"}
    for row in found.syncs:
        assert [row.count_before, row.count_after].count(None) == 1
        assert (row.count_after is None) != turned
    assert "does not tell host syncs; the change is unknown" in " ".join(found.notes)
    assert "unknown" in shown(found) and "gone" not in shown(found)
    assert "the same waits" not in shown(found)


def test_kernels_are_not_gone_where_no_work_was_recorded() -> None:
    found = difference(without_work(), report_of(two_steps()))
    assert {(row.change, row.name, row.count_after, row.total_ms_after) for row in found.kernels} == {
        ("unknown", "gemm", None, None)
    }
    assert "unknown" not in {row.change for row in found.syncs}, "waits are known of both"


def test_kernels_of_unlike_devices_are_not_compared_and_waits_are() -> None:
    before = report_of(two_steps())
    device = replace(before.devices[0], name="Other GPU")
    kernels = (replace(before.kernels[0], name="Cijk_Ailk"),)
    fewer = tuple(replace(site, count=site.count + 1) for site in before.sites)
    after = replace(before, devices=(device,), kernels=kernels, sites=fewer)
    found = difference(after, before)
    assert {(row.change, row.name, row.count_before, row.count_after) for row in found.kernels} == {
        ("unknown", "gemm", 6, None),
        ("unknown", "Cijk_Ailk", None, 6),
    }
    assert {row.change for row in found.syncs} == {"more"}
    assert "the devices are unlike: Made-up GPU and Other GPU" in " ".join(found.notes)


def test_a_device_without_a_name_may_be_the_same() -> None:
    before = report_of(two_steps())
    after = replace(before, devices=(replace(before.devices[0], name=""),), kernels=())
    assert {row.change for row in difference(after, before).kernels} == {"gone"}


def test_idle_time_is_compared_by_cause() -> None:
    before = report_of(two_steps())
    causes = {**before.idle_by_cause_ms, "data_loader": 1.0}
    after = replace(before, idle_by_cause_ms=causes)
    found = difference(after, before)
    assert (found.idle_by_cause[0].name, found.idle_by_cause[0].before, found.idle_by_cause[0].after) == (
        "data_loader", 0.0, 1.0,
    )  # fmt: skip
    assert {each.name for each in found.idle_by_cause} == {name for name, ms in causes.items() if ms}
    assert "data loader (ms)" in shown(found)
    unknown = difference(replace(before, gpu_idle_ms=None, idle_by_cause_ms={}), before)
    assert {each.after for each in unknown.idle_by_cause} == {None}


def test_a_difference_survives_the_json_and_older_ones_are_read() -> None:
    found = difference(without_calls(), report_of(two_steps()))
    report = replace(report_of(two_steps()), difference=found)
    assert TraceReport.from_json(report.to_json()).difference == found
    data = report.to_json()
    del data["difference"]["idle_by_cause"]
    assert TraceReport.from_json(data).difference == replace(found, idle_by_cause=())
