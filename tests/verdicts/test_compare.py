"""A result follows from the runs: what is wrong is never fast, and what was not checked never passes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from bagel_perf.records.errors import BagelPerfError, EnvironmentUnfit, OutputsDiffer, RunFailed
from bagel_perf.records.plans import Plan
from bagel_perf.records.results import Delta, Result
from bagel_perf.records.runs import Run, TimedRun
from bagel_perf.verdicts.compare import Session, build_result
from scripted import ENVIRONMENT, make_outline, make_plan, make_runs

PLAN = make_plan(((256, 256), (768, 1024)))


def judge(runs: list[Run], *, pairs: int = 5, error: BagelPerfError | None = None, plan: Plan = PLAN) -> Result:
    session = Session(
        command="bagel-perf compare", created="2026-01-31", pairs=pairs, warmup=1, order_seed=0, processes=pairs
    )
    return build_result(make_outline(plan), ENVIRONMENT, runs, session, error=error)


def change(runs: list[Run], where: Callable[[Run], bool], **picture: object) -> list[Run]:
    """The runs with the pictures of some of them changed."""
    changed = [replace(r, output=replace(r.output, **picture)) if where(r) else r for r in runs]
    assert changed != runs
    return changed


def is_of_round(run: Run, number: int) -> bool:
    return isinstance(run, TimedRun) and run.round == number


def good_runs(pairs: int = 5) -> list[Run]:
    return list(make_runs(PLAN, pairs))


def delta_of(result: Result, stage: str, candidate: str = "sync_free", case: str = "256x256") -> Delta:
    return next(d for d in result.deltas if (d.case, d.stage, d.candidate) == (case, stage, candidate))


def test_good_runs_pass() -> None:
    result = judge(good_runs())
    assert (result.verdict, result.exit_code, result.complete, result.findings) == ("pass", 0, True, ())
    assert all(check.identical and check.num_runs == 8 for check in result.identity)
    assert [(check.case, check.candidate) for check in result.identity] == [
        ("256x256", "pr3987"),
        ("256x256", "sync_free"),
        ("768x1024", "pr3987"),
        ("768x1024", "sync_free"),
    ]


def test_a_cell_has_raw_latencies_in_order_and_their_median() -> None:
    cell = judge(good_runs()).cells[0]
    assert (cell.case, cell.stage, cell.variant) == ("256x256", "ar", "baseline")
    assert cell.latency_ms == (100.0, 150.0, 200.0, 250.0, 300.0)
    assert cell.median_ms == 200.0


def test_counts_come_from_the_counted_run_and_e2e_is_the_sum_of_the_stages() -> None:
    cells = {(c.stage, c.variant): c for c in judge(good_runs()).cells if c.case == "256x256"}
    assert [cells[stage, "baseline"].host_syncs for stage in ("ar", "dit", "e2e")] == [1006, 6000, 7006]
    assert cells["e2e", "baseline"].syncs_by_component == {"route_experts": 1006 + 1500, "step_input": 3000}
    assert cells["dit", "sync_free"].host_syncs == 1
    assert cells["dit", "sync_free"].sync_device == "simulated"
    assert [cells[stage, "baseline"].peak_bytes for stage in ("ar", "dit", "e2e")] == [100, 300, 300]


def test_stages_may_be_timed_in_other_runs_than_the_whole() -> None:
    runs: list[Run] = []
    for run in good_runs():
        if not isinstance(run, TimedRun):
            runs.append(run)
        else:
            runs.append(replace(run, measurements=run.measurements[:2]))
            runs.append(replace(run, measurements=run.measurements[2:]))
    assert judge(runs).cells == judge(good_runs()).cells
    assert judge(runs).verdict == "pass"


def test_deltas_are_paired_by_round_whatever_the_order_of_arrival() -> None:
    runs = good_runs()
    shuffled = [run for run in runs if run.purpose != "timed"] + [run for run in runs if run.purpose == "timed"][::-1]
    assert delta_of(judge(shuffled), "dit").delta_pct == pytest.approx(-40.0)


def test_five_pairs_give_a_delta_and_no_verdict_on_it() -> None:
    delta = delta_of(judge(good_runs()), "e2e", "pr3987")
    assert delta.delta_pct == pytest.approx(-10.0)
    assert (delta.ci_pct, delta.num_pairs, delta.verdict) == (None, 5, "inconclusive")


def test_six_pairs_give_an_interval_and_a_verdict() -> None:
    delta = delta_of(judge(good_runs(6), pairs=6), "e2e")
    assert delta.ci_pct == pytest.approx((-40.0, -40.0))
    assert delta.verdict == "improved"


def test_a_regression_is_named_and_does_not_fail_a_comparison() -> None:
    plan = make_plan(variants=("sync_free", "baseline"))
    result = judge(list(make_runs(plan, 6)), pairs=6, plan=plan)
    assert {delta.verdict for delta in result.deltas} == {"regressed"}
    assert result.exit_code == 0


def test_one_wrong_timed_picture_takes_all_latency_from_its_variant() -> None:
    def wrong(run: Run) -> bool:
        return run.variant == "sync_free" and run.case == "256x256" and is_of_round(run, 3)

    result = judge(change(good_runs(), wrong, sha256="0" * 64))
    assert (result.verdict, result.exit_code) == ("outputs differ", 3)
    assert [check.identical for check in result.identity] == [True, False, True, True]
    assert "sync_free at 256x256 differs from baseline" in result.findings
    cells = [c for c in result.cells if c.variant == "sync_free" and c.case == "256x256"]
    assert [(c.latency_ms, c.median_ms) for c in cells] == [((), None)] * 3
    assert cells[0].host_syncs == 0
    assert not [d for d in result.deltas if d.candidate == "sync_free" and d.case == "256x256"]
    assert delta_of(result, "ar", "sync_free", "768x1024").delta_pct == pytest.approx(-40.0)


def test_another_md5_of_the_same_pixels_differs_too() -> None:
    result = judge(change(good_runs(), lambda run: run.variant == "pr3987" and run.purpose == "count", md5="f" * 32))
    assert result.exit_code == OutputsDiffer.exit_code


def test_a_variant_that_is_wrong_in_the_same_way_each_time_still_differs() -> None:
    runs = [
        replace(r, output=replace(r.output, md5=r.output.md5[::-1], sha256=r.output.sha256[::-1]))
        if r.variant == "sync_free"
        else r
        for r in good_runs()
    ]
    result = judge(runs)
    assert result.findings == (
        "sync_free at 256x256 differs from baseline",
        "sync_free at 768x1024 differs from baseline",
    )


def test_a_picture_that_does_not_repeat_fails_its_own_variant() -> None:
    result = judge(change(good_runs(), lambda run: run.variant == "baseline" and run.purpose == "repeat", md5="0"))
    assert result.exit_code == OutputsDiffer.exit_code
    assert "baseline at 256x256 does not repeat its own picture" in result.findings
    assert not result.deltas


def test_a_picture_that_ignores_the_seed_fails() -> None:
    first = good_runs()[0].output
    runs = [replace(run, output=first) if run.case == "256x256" else run for run in good_runs()]
    result = judge(runs)
    assert result.exit_code == OutputsDiffer.exit_code
    assert "pr3987 at 256x256 gives the same picture for different seeds" in result.findings


@pytest.mark.parametrize("spread", [0.99, 0.0, float("nan")])
def test_a_flat_picture_fails(spread: float) -> None:
    result = judge(change(good_runs(), lambda run: run.variant == "pr3987", spread=spread))
    assert result.exit_code == OutputsDiffer.exit_code
    assert any("flat" in finding for finding in result.findings)


@pytest.mark.parametrize("purpose", ["count", "repeat", "other_seed"])
def test_a_check_that_was_not_made_cannot_pass(purpose: str) -> None:
    result = judge([run for run in good_runs() if not (run.variant == "pr3987" and run.purpose == purpose)])
    assert (result.verdict, result.exit_code, result.complete) == ("incomplete", 6, False)
    assert f"pr3987 at 256x256 lacks its {purpose} run" in result.findings


def test_a_missing_round_is_incomplete() -> None:
    result = judge([run for run in good_runs() if not is_of_round(run, 4)])
    assert (result.verdict, result.exit_code) == ("incomplete", 6)
    assert "baseline at 256x256 has 4 of 5 latencies of ar" in result.findings


def test_an_error_keeps_what_was_measured_and_its_own_words() -> None:
    result = judge(good_runs()[:20], error=RunFailed("out of memory"))
    assert (result.verdict, result.exit_code, result.complete, result.error) == (
        "incomplete",
        6,
        False,
        "out of memory",
    )
    assert result.cells[0].latency_ms
    assert len(result.runs) == 20
    assert judge(good_runs()[:20], error=EnvironmentUnfit("hot")).exit_code == 5


def test_a_proven_difference_outranks_an_early_end() -> None:
    runs = change(good_runs()[:20], lambda run: run.variant == "pr3987", md5="0")
    assert judge(runs, error=RunFailed("interrupted")).exit_code == OutputsDiffer.exit_code
    assert judge(good_runs()[:20], error=OutputsDiffer("flat")).verdict == "outputs differ"


def test_an_early_end_outranks_outputs_that_prove_nothing() -> None:
    runs = change(good_runs()[:20], lambda run: run.variant == "pr3987", spread=0.0)
    result = judge(runs, error=RunFailed("interrupted"))
    assert (result.verdict, result.exit_code) == ("incomplete", RunFailed.exit_code)
    assert any("flat picture" in finding for finding in result.findings)
    assert judge(runs).exit_code == OutputsDiffer.exit_code


def test_no_runs_at_all_give_no_pass() -> None:
    assert judge([]).exit_code == RunFailed.exit_code


def test_there_is_one_output_per_variant_and_case() -> None:
    runs = change(good_runs(), lambda run: run.variant == "baseline" and is_of_round(run, 2), path="256_baseline.png")
    outputs = judge(runs).outputs
    assert [(each.case, each.variant) for each in outputs] == [
        (case, variant) for case in ("256x256", "768x1024") for variant in PLAN.variants
    ]
    assert outputs[0].path == "256_baseline.png"
    assert outputs[0].md5 == good_runs()[0].output.md5
