"""Each step has its own busy, idle and communication time."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bagel_perf.records.traces import TraceReport
from bagel_perf.traces.analyse import MAX_STEPS, analyse, shortened
from trace_scenes import Scene, two_steps
from trace_stories import trace_of


def report_of(scene: Scene) -> TraceReport:
    return analyse(trace_of(scene))


def with_collectives(ahead: int = 0) -> Scene:
    """Three steps of 100 us: a kernel of 40, then one of communication of 30, of which 10 under another kernel.

    The work of each step begins ``ahead`` us after its launch.
    """
    scene = Scene()
    for step in range(3):
        at = 100 * step
        scene.annotation(f"ProfilerStep#{step}", at, at + 99)
        scene.kernel((at + 2, at + 6), (at + 10 + ahead, at + 50 + ahead))
        scene.kernel((at + 8, at + 12), (at + 50 + ahead, at + 80 + ahead), stream=20, name="ncclDevKernel_AllReduce")
        scene.kernel((at + 14, at + 18), (at + 50 + ahead, at + 60 + ahead))
    return scene


def test_communication_is_that_of_a_step_and_exposed_where_nothing_is_computed_beside() -> None:
    steps = report_of(with_collectives()).steps
    assert [step.number for step in steps] == [0, 1, 2]
    assert [step.is_warm_up for step in steps] == [True, False, False]
    for step in steps:
        assert step.communication_ms == pytest.approx(0.03)
        assert step.exposed_communication_ms == pytest.approx(0.02)
    assert [step.wall_ms for step in steps[:2]] == pytest.approx([0.1, 0.1])
    assert [step.gpu_busy_ms for step in steps[:2]] == pytest.approx([0.07, 0.07])
    assert [step.gpu_idle_ms for step in steps[:2]] == pytest.approx([0.03, 0.03])


def test_communication_belongs_to_the_step_that_launched_it_however_late_it_runs() -> None:
    for ahead in (0, 60, 130):
        found = [step.communication_ms for step in report_of(with_collectives(ahead)).steps]
        assert found == pytest.approx([0.03, 0.03, 0.03])


@pytest.mark.parametrize("scene", [two_steps(), with_collectives(), with_collectives(60)])
def test_steps_add_up_to_the_phases(scene: Scene) -> None:
    report = report_of(scene)
    for phase in report.phases:
        mine = [step for step in report.steps if step.is_warm_up == (phase.name == "warm-up")]
        assert len(mine) == phase.steps
        assert sum(step.gpu_idle_ms or 0 for step in mine) == pytest.approx(phase.gpu_idle_ms, abs=1e-6)
        assert sum(step.gpu_busy_ms or 0 for step in mine) == pytest.approx(phase.gpu_busy_ms, abs=1e-6)
        assert sum(step.host_syncs or 0 for step in mine) == phase.host_syncs
        for step in mine:
            assert sum(step.idle_by_cause_ms.values()) == pytest.approx(step.gpu_idle_ms, abs=1e-4)


def test_without_gpu_events_only_walls_and_waits_are_known() -> None:
    scene = two_steps()
    scene.works.clear()
    for step in report_of(scene).steps:
        assert step.wall_ms > 0
        assert (step.gpu_busy_ms, step.gpu_idle_ms, step.communication_ms) == (None, None, None)
        assert step.idle_by_cause_ms == {}


def test_without_steps_there_are_none() -> None:
    scene = two_steps()
    scene.annotations.clear()
    assert report_of(scene).steps == ()


def test_of_too_many_steps_the_first_are_listed_with_a_note() -> None:
    report = report_of(with_collectives())
    many = replace(report, steps=report.steps[:1] * (MAX_STEPS + 1))
    cut = shortened(many)
    assert len(cut.steps) == MAX_STEPS
    assert f"of {MAX_STEPS + 1} steps the first {MAX_STEPS} are listed" in cut.notes


def test_steps_survive_the_json_and_older_files_have_none() -> None:
    report = report_of(with_collectives())
    data = report.to_json()
    assert TraceReport.from_json(data).steps == report.steps
    del data["steps"]
    assert TraceReport.from_json(data).steps == ()
