"""Of several ranks it is told who arrived last in each step, and how long the others waited."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from bagel_perf.records.errors import UsageError
from bagel_perf.records.trace_ranks import RanksReport
from bagel_perf.records.traces import TraceReport
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.ranks import compare_ranks, rank_of, ranked
from rank_scenes import four_ranks, rank_scene
from trace_scenes import Scene, two_steps
from trace_stories import trace_of


def report_of(scene: Scene, file: str = "a.json", rank: str | None = None) -> TraceReport:
    report = analyse(trace_of(scene))
    versions = report.source.versions | ({} if rank is None else {"rank": rank})
    return replace(report, source=replace(report.source, file=file, versions=versions))


def compared(scenes: list[Scene]) -> RanksReport:
    return compare_ranks({rank: report_of(scene, f"rank{rank}.json") for rank, scene in enumerate(scenes)})


def test_the_rank_with_the_least_communication_is_the_one_that_others_waited_for() -> None:
    report = compared(four_ranks())
    assert [step.straggler for step in report.steps] == [None, 2, 2, 2]
    for step in report.steps[1:]:
        assert [each.waited_ms for each in step.ranks] == pytest.approx([0.1, 0.1, 0.0, 0.1])
        assert step.waited_ms == pytest.approx(0.3)
    late = report.straggler
    assert late is not None
    assert (late.rank, late.late_steps, late.steps) == (2, 3, 3)
    assert late.delayed_ms == pytest.approx(0.9)
    assert (late.reason, late.cause, late.what) == ("compute", None, "gemm_kernel")
    assert late.extra_ms == pytest.approx(0.3)


def test_a_rank_that_is_late_because_its_gpu_was_idle_is_told_with_the_cause() -> None:
    scenes = [rank_scene([100] * 4, [200] * 4), rank_scene([100] * 4, [200] * 4)]
    scenes.append(rank_scene([100] * 4, [0] * 4, launched_late=100))
    late = compared(scenes).straggler
    assert late is not None
    assert (late.rank, late.reason) == (2, "idle")
    assert late.cause in ("launch_bound", "cpu_elsewhere")
    assert late.extra_ms == pytest.approx(0.3, rel=0.1)


def test_each_rank_knows_in_which_step_it_waited_longest() -> None:
    lengths = [100, 150, 250, 120]
    report = compared([rank_scene([100] * 4, lengths), rank_scene(lengths, lengths)])
    first, second = report.ranks
    assert first.longest_wait_step == 2
    assert first.longest_wait_ms == pytest.approx(0.15)
    assert first.waited_ms == pytest.approx(0.05 + 0.15 + 0.02)
    assert (second.longest_wait_step, second.waited_ms, second.late_steps) == (None, 0.0, 3)


def test_ranks_that_arrive_together_have_no_straggler() -> None:
    report = compared([rank_scene([100] * 3, [100] * 3, shift=77 * rank) for rank in range(3)])
    assert report.straggler is None
    assert {step.straggler for step in report.steps} == {None}
    assert all(step.waited_ms == pytest.approx(0.0) for step in report.steps)


def test_without_kernels_of_communication_who_was_late_is_unknown() -> None:
    report = compared([two_steps(), two_steps()])
    assert report.straggler is None
    assert {step.waited_ms for step in report.steps} == {None}
    assert {each.waited_ms for each in report.ranks} == {None}
    assert [step.ranks[0].wall_ms > 0 for step in report.steps] == [True, True]
    assert "who arrived last is unknown" in " ".join(report.notes)


def test_unlike_steps_are_not_matched() -> None:
    unlike = compared([rank_scene([100] * 3, [100] * 3), rank_scene([100] * 4, [100] * 4)])
    assert (unlike.steps, unlike.straggler) == ((), None)
    assert "rank 0 has 3, rank 1 has 4" in " ".join(unlike.notes)
    scene = rank_scene([100] * 3, [100] * 3)
    scene.annotations.clear()
    scene.works = scene.works[:1]
    without = compared([rank_scene([100] * 3, [100] * 3), scene])
    assert "rank 1 has none that can be told apart" in " ".join(without.notes)


@pytest.mark.parametrize(
    ("file", "said", "rank"),
    [
        ("a.json", "3", 3),
        ("rank7.json", "3", 3),
        ("rank7.json", None, 7),
        ("trace_rank-012.json.gz", None, 12),
        ("dp_rank1_tp_rank3.json", None, 3),
        ("frank_5.json", "x", 5),
        ("a5.json", None, None),
        ("a.json", "-1", None),
        ("a.json", "9" * 50, None),
        ("a.json", "٣", None),
        ("rank" + "9" * 50 + ".json", None, None),
    ],
)
def test_the_rank_is_what_the_trace_says_else_what_its_name_says(file: str, said: str | None, rank: int | None) -> None:
    assert rank_of(report_of(two_steps(), file, said)) == rank


def test_reports_are_sorted_by_rank_and_numbered_where_one_has_none() -> None:
    names = ["rank10.json", "rank2.json"]
    found, notes = ranked([report_of(two_steps(), name) for name in names])
    assert ([*found], notes) == ([2, 10], ())
    found, (note,) = ranked([report_of(two_steps(), name) for name in (*names, "c.json")])
    assert [*found] == [0, 1, 2]
    assert "c.json does not say of which it is" in note


def test_two_traces_of_one_rank_are_refused() -> None:
    with pytest.raises(UsageError, match=r"two traces are of rank 1 \(rank1.json, b.json\); one of each rank"):
        ranked([report_of(two_steps(), "rank1.json"), report_of(two_steps(), "b.json", "1")])


def test_a_warning_stands_once_with_the_ranks_that_it_is_of() -> None:
    reports = {rank: replace(report_of(two_steps()), warnings=("odd",)) for rank in range(2)}
    assert compare_ranks(reports).warnings == ("all ranks: odd",)
    reports[2] = report_of(two_steps())
    assert compare_ranks(reports).warnings == ("rank 0, 1: odd",)


def test_the_report_survives_the_json() -> None:
    report = compared(four_ranks())
    assert RanksReport.from_json(json.loads(json.dumps(report.to_json()))) == report
