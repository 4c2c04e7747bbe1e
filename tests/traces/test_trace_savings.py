"""A predicted saving is what the program would take less without its waits; its replay gives the trace's time back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bagel_perf.traces.analyse import analyse, report_of
from bagel_perf.traces.findings import examine
from bagel_perf.traces.formats.reading import read_trace
from bagel_perf.traces.replay import MAX_REPLAYED_CALLS, PredictedSavings, build_replay
from trace_scenes import Scene, Work, item, two_steps
from trace_stories import findings_of

REPORTS = Path(__file__).resolve().parents[2] / "reports" / "predicted-savings"
WALLS = json.loads((REPORTS / "walls.json").read_text())
TRACES = Path(__file__).resolve().parents[1] / "data" / "traces"
RECORDED = [path for path in (*REPORTS.glob("*.json.gz"), *TRACES.glob("*h100*.gz")) if "threads" not in path.name]


def predicted_saving_us(scene: Scene, *waits: int) -> tuple[float, float]:
    predicted_saving = PredictedSavings(findings_of(scene)).of(waits)
    assert predicted_saving is not None
    return round(predicted_saving[0] * 1e3, 6), round(predicted_saving[1] * 1e3, 6)


def test_the_host_gets_ahead_by_a_read_and_closes_the_gaps_that_followed() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 100))
    item(scene, 10, (100, 102), 110)  # its operator holds the host from 10 to 114
    for start in (130, 160, 190, 220, 250, 280):
        scene.op("aten::mm", start - 2, start + 6)
        scene.kernel((start, start + 5), (start + 8, start + 18))
    # 36 us of idle time opened in the wait; five gaps of 20 followed, as the host is slower than the GPU.
    assert findings_of(scene).idle.lost_by_wait_us.tolist() == [36.0]
    assert predicted_saving_us(scene, 0) == (104.0, 104.0)


def test_where_the_host_is_the_slower_side_a_read_costs_its_operator_and_not_the_gap_around_it() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 18))
    item(scene, 10, (20, 22), 26)
    scene.op("aten::ones", 40, 900)
    scene.kernel((905, 910), (912, 920))
    assert findings_of(scene).idle.lost_by_wait_us.tolist() == [18.0]
    assert predicted_saving_us(scene, 0) == (20.0, 20.0)


def test_where_the_gpu_is_the_slower_side_a_read_costs_its_copy_and_the_gap_after_it() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 500))
    item(scene, 10, (500, 502), 510)
    scene.kernel((520, 525), (530, 600))
    item(scene, 530, (600, 602), 603)
    scene.op("aten::mm", 640, 660)
    scene.kernel((650, 655), (662, 700))
    assert predicted_saving_us(scene, 0) == (30.0, 30.0)
    assert predicted_saving_us(scene, 1) == (62.0, 62.0)
    assert predicted_saving_us(scene, 0, 1) == (92.0, 92.0)


def test_a_wait_of_any_length_costs_nothing_while_the_gpu_has_work() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 100))
    scene.kernel((6, 10), (100, 1000))
    scene.wait("cudaEventSynchronize", 12, 900, row="Event Sync")
    scene.kernel((905, 910), (1000, 1010))
    assert predicted_saving_us(scene, 0) == (0.0, 0.0)


def test_what_only_computes_for_a_loop_of_reads_may_go_with_them() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    for start in range(100, 500, 100):
        scene.op("aten::lt", start, start + 20)
        scene.kernel((start + 2, start + 8), (start + 12, start + 14))
        item(scene, start + 30, (start + 42, start + 44), start + 48)
    scene.kernel((600, 605), (610, 640))
    alone, with_loops = predicted_saving_us(scene, 0, 1, 2, 3)
    assert alone == 4 * 22.0
    # Between the ends of the first operator and of the last lie 300 us, of which the reads are 3 x 22.
    assert with_loops == alone + 300 - 3 * 22


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_the_replay_gives_the_time_of_a_recorded_trace_back(path: Path) -> None:
    findings = examine(read_trace(path))
    replay = build_replay(findings)
    assert replay is not None
    tolerance = 0.05 if "graph" in path.name else 0.002  # a graph's kernels are replayed as one piece
    assert replay.duration_us() == pytest.approx(findings.window.length_us, rel=tolerance)


def test_threads_that_launch_side_by_side_are_not_replayed() -> None:
    savings = PredictedSavings(examine(read_trace(TRACES / "torch211_h100_threads.json.gz")))
    assert savings.of([0]) is None
    assert "side by side" in savings.doubt


@pytest.mark.parametrize("case", ["gpu", "host"])
def test_a_predicted_saving_lies_within_the_quartiles_of_what_taking_the_waits_out_gave(case: str) -> None:
    low_ms, _, high_ms = WALLS[case]["savings_ms"]
    assert low_ms <= predicted_saving_of_reads_ms(case) <= high_ms


def test_where_the_profiler_slows_the_host_the_predicted_saving_is_near() -> None:
    assert predicted_saving_of_reads_ms("mixed") == pytest.approx(WALLS["mixed"]["savings_ms"][1], rel=0.2)


def predicted_saving_of_reads_ms(case: str) -> float:
    sites = analyse(read_trace(REPORTS / f"{case}_with_waits.json.gz")).sites
    (reads,) = (site for site in sites if site.kind == "scalar_read")
    assert reads.predicted_saving_ms is not None
    return reads.predicted_saving_ms[0]


def test_threads_that_launch_side_by_side_have_no_predicted_savings() -> None:
    scene = Scene()
    for start in range(0, 400, 20):
        scene.kernel((start, start + 15), (start + 16, start + 18))
        scene.kernel((start + 5, start + 19), (start + 19, start + 20), thread=7)
    savings = PredictedSavings(findings_of(scene))
    assert "side by side" in savings.doubt and savings.of([0]) is None


def test_a_large_trace_is_replayed_for_few_places_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = two_steps()
    assert PredictedSavings(findings_of(scene)).num_affordable == MAX_REPLAYED_CALLS // (2 * len(scene.calls) + 1)
    monkeypatch.setattr("bagel_perf.traces.replay.MAX_REPLAYED_CALLS", 10)
    findings = findings_of(scene)
    report = report_of(findings, PredictedSavings(findings))
    assert report.predicted_saving_ms is None and {site.predicted_saving_ms for site in report.sites} == {None}
    assert any("too many to replay" in note for note in report.notes)


def test_waits_that_only_the_gpu_side_recorded_have_no_predicted_saving_and_break_nothing() -> None:
    scene = two_steps()
    findings = findings_of(scene)
    replay = build_replay(findings)
    assert replay is not None
    beyond = len(findings.waits) + 3
    assert replay.duration_us([beyond]) == replay.duration_us([beyond + 1]) == replay.duration_us()


def test_a_wait_for_a_graph_is_held_by_its_last_kernel() -> None:
    scene = Scene()
    scene.kernel((0, 5), (10, 20))
    scene.kernel((30, 40), (50, 150), api="cudaGraphLaunch")
    scene.works += [Work("kernel", "gemm", start, start + 100, scene.last) for start in range(150, 1050, 100)]
    scene.wait("cudaStreamSynchronize", 60, 1060)
    scene.kernel((1080, 1085), (1090, 1200))
    assert PredictedSavings(findings_of(scene)).doubt == ""
    # Without it the last kernel runs right after the graph, 40 us sooner.
    assert predicted_saving_us(scene, 0) == (40.0, 40.0)
