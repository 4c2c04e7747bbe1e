"""Changes of latency know their noise, leave out what the conditions rule out, and are held to the whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace

from bagel_perf.commands.gate_result import BAGEL_STAGES
from bagel_perf.records.results import Delta, Result
from bagel_perf.records.runs import Conditions, Run, TimedRun, TimedStage
from bagel_perf.report.machine_tables import condition_tables
from bagel_perf.report.summary import verdict_lines
from bagel_perf.report.tables import latency_table
from bagel_perf.verdicts.compare import Session, build_result
from docs_results import headline_table
from scripted import ENVIRONMENT, make_outline, make_plan, make_run, make_runs

PLAN = make_plan(variants=("baseline", "sync_free"))
COOL = Conditions(window_ms=1.0, num_samples=4, sm_clock_mhz=1900.0, energy_j=900.0, power_w=600.0)

Latency = Callable[[str, int, str, bool], float]


def timed(
    number: int, variant: str, latency: Latency, *, is_control: bool = False, conditions: Conditions = COOL
) -> TimedRun:
    measurements = tuple(
        TimedStage(stage=stage, latency_ms=latency(variant, number, stage, is_control)) for stage in BAGEL_STAGES
    )
    run = make_run(TimedRun, variant, PLAN.requests[0], number)
    return replace(run, measurements=measurements, is_control=is_control, conditions=conditions)


def result_of(latency: Latency, num_rounds: int = 8, hot: Sequence[int] = (), hot_variant: str = "sync_free") -> Result:
    """With a control in each round; in the ``hot`` rounds a variant was slowed down by heat."""
    runs: list[Run] = [run for run in make_runs(PLAN) if not isinstance(run, TimedRun)]
    for number in range(num_rounds):
        for variant, is_control in (("baseline", False), ("sync_free", False), ("baseline", True)):
            heated = replace(COOL, throttle_reasons=("hw_thermal_slowdown",))
            is_hot = number in hot and variant == hot_variant and not is_control
            runs.append(timed(number, variant, latency, is_control=is_control, conditions=heated if is_hot else COOL))
    session = Session(
        command="bagel-perf",
        created="2026-11-27T00:00:00+00:00",
        pairs=num_rounds,
        warmup=1,
        order_seed=0,
        processes=num_rounds,
    )
    return build_result(make_outline(PLAN), ENVIRONMENT, runs, session)


def wobble(number: int) -> float:
    return 1 + 0.002 * ((7 * number) % 5 - 2)


def faster(variant: str, number: int, stage: str, is_control: bool) -> float:
    """The control wobbles about the first; ar takes 100 ms, dit 1000, e2e both."""
    base = {"ar": 100.0, "dit": 1000.0, "e2e": 1100.0}[stage]
    return base * (0.9 if variant == "sync_free" else 1.0) * (wobble(number + 2) if is_control else wobble(number))


def delta(result: Result, stage: str) -> Delta:
    return next(each for each in result.deltas if each.stage == stage)


def test_noise_is_the_first_variant_against_itself() -> None:
    result = result_of(faster)
    ar = result.noise[0]
    assert [each.stage for each in result.noise] == list(BAGEL_STAGES)
    assert ar.num_pairs == 8 and ar.ci_pct is not None and ar.floor_pct is not None
    assert ar.ci_pct[0] < 0 < ar.ci_pct[1] and ar.floor_pct == pytest.approx((ar.ci_pct[1] - ar.ci_pct[0]) / 2)
    assert delta(result, "ar").delta_pct == pytest.approx(-10)
    assert delta(result, "ar").verdict == "improved"
    assert latency_table(result, "sync_free").rows[0][-2:] == (f"{ar.floor_pct:.1f}", "improved")
    assert headline_table(result).columns[-2].header == "noise (%)"
    assert len(result.cells[0].latency_ms) == 8, "the control is in no cell"


def test_a_first_variant_that_differs_from_itself_voids_every_verdict() -> None:
    result = result_of(
        lambda v, n, s, is_control: faster(v, n, s, is_control) * (1.05 if is_control else 1.0), num_rounds=10
    )
    assert {each.verdict for each in result.deltas} == {"invalid"}
    assert (result.verdict, result.exit_code) == ("invalid", 5)
    assert any("dit at 256x256: the first variant differs from itself" in line for line in verdict_lines(result))


def test_a_pair_is_excluded_by_its_conditions_and_never_by_its_latency() -> None:
    slow = result_of(
        lambda v, n, s, is_control: faster(v, n, s, is_control) * (3.0 if n == 4 and v == "sync_free" else 1.0)
    )
    assert {each.num_excluded for each in slow.deltas} == {0} and slow.excluded == ()
    hot = result_of(faster, hot=(4,))
    assert {(each.num_pairs, each.num_excluded) for each in hot.deltas} == {(7, 1)}
    assert {each.num_pairs for each in hot.noise} == {8}
    lines = [line for line in verdict_lines(hot) if "excluded" in line]
    assert lines == ["- excluded: sync_free at 256x256, round 5: the GPU slowed down: hw_thermal_slowdown"]
    assert latency_table(hot, "sync_free").rows[0][-1] == "improved, 1 pair excluded"


@pytest.mark.parametrize(("hot", "verdict"), [((0, 1), "improved"), ((0, 1, 2), "invalid")])
def test_over_a_quarter_excluded_is_invalid(hot: tuple[int, ...], verdict: str) -> None:
    assert {each.verdict for each in result_of(faster, hot=hot).deltas} == {verdict}


def test_verdicts_of_one_table_hold_together() -> None:
    """Six processes of one sign, one of them nearly 0, beside a stage that is noisier: by itself it would be shown."""

    def close(variant: str, number: int, stage: str, is_control: bool) -> float:
        change = {"ar": (1e-5, 0.03, 0.02, 0.04, 0.01, 0.05)[number], "dit": 0.3 * (-1) ** number, "e2e": 0.0}[stage]
        return faster("baseline", number, stage, is_control) * (1 + float(change) * (variant == "sync_free"))

    result = result_of(close, num_rounds=6)
    ar = delta(result, "ar")
    assert ar.ci_pct is not None and ar.ci_pct[0] > 0
    assert ar.verdict == "no difference shown"
    assert "+2.5? (+0.0 to +5.0)" in headline_table(result).rows[1]
    assert "Verdicts hold for all 3 changes of the result together" in headline_table(result).caption


def test_older_results_take_every_round_for_itself_and_judge_by_the_interval_alone() -> None:
    runs = [replace(run, process=0) for run in result_of(faster).runs]
    session = Session(command="", created="", pairs=8, warmup=1, order_seed=0, unit="pair")
    old = build_result(make_outline(PLAN), ENVIRONMENT, runs, session)
    assert (delta(old, "dit").num_processes, delta(old, "dit").verdict) == (8, "improved")
    new = build_result(make_outline(PLAN), ENVIRONMENT, runs, dataclasses.replace(session, unit="process"))
    assert (delta(new, "dit").num_processes, delta(new, "dit").verdict) == (1, "inconclusive")


def test_fewer_than_six_processes_give_no_verdict() -> None:
    result = result_of(faster, num_rounds=5)
    assert {each.verdict for each in result.deltas} == {"inconclusive"}
    assert latency_table(result, "sync_free").rows[0][-2:] == ("-", "inconclusive")


def test_what_one_stage_loses_and_the_other_gains_is_told() -> None:
    def hidden(variant: str, number: int, stage: str, is_control: bool) -> float:
        change = {"ar": -50.0, "dit": +50.0, "e2e": 0.0}[stage] if variant == "sync_free" else 0.0
        return faster("baseline", number, stage, is_control) + change

    result = result_of(hidden)
    assert (delta(result, "dit").verdict, delta(result, "e2e").verdict) == ("regressed", "no difference shown")
    assert "- sync_free at 256x256: DiT regressed (paired change +5.0%), which e2e hides" in verdict_lines(result)
    assert [each.state for each in result.stage_sums] == ["agree", "agree"]


@pytest.mark.parametrize("more_ms", [30.0, -30.0])
def test_a_whole_that_takes_another_time_than_its_stages_makes_the_run_invalid(more_ms: float) -> None:
    """As where the whole finds a prefill that its stages have left in a cache."""

    def apart(variant: str, number: int, stage: str, is_control: bool) -> float:
        more = more_ms if variant == "sync_free" and stage == "e2e" else 0.0
        return faster("baseline", number, stage, is_control) + more

    result = result_of(apart)
    assert [each.state for each in result.stage_sums] == ["agree", "disagree"]
    assert (result.verdict, result.exit_code) == ("invalid", 5)
    assert any("against its stages together, which share no seed with it" in line for line in verdict_lines(result))


def test_a_disagreement_within_noise_or_of_one_percent_is_none_and_on_a_cpu_it_is_told_only() -> None:
    def apart(share: float) -> Latency:
        def latency(variant: str, number: int, stage: str, is_control: bool) -> float:
            return faster("baseline", number, stage, is_control) * (1 + share * (stage == "e2e"))

        return latency

    assert {each.state for each in result_of(apart(0.009)).stage_sums} == {"agree"}
    noisy = result_of(lambda v, n, s, a: faster("baseline", n, s, a) * (1 + 0.3 * (-1) ** n * (s == "e2e")))
    assert {each.state for each in noisy.stage_sums} == {"agree"}
    gpu = result_of(apart(0.03))
    assert (gpu.verdict, gpu.exit_code) == ("invalid", 5)
    session = Session(command="", created="", pairs=8, warmup=1, order_seed=0, processes=8)
    on_cpu = build_result(make_outline(PLAN), replace(ENVIRONMENT, device_kind="cpu"), gpu.runs, session)
    assert (on_cpu.verdict, on_cpu.exit_code) == ("pass", 0)
    assert any("as it may on a CPU" in line for line in verdict_lines(on_cpu))


def test_energy_and_conditions_have_a_table_on_a_gpu_alone() -> None:
    (table,) = condition_tables(result_of(faster))
    assert table.rows[0][:3] == ("256x256", "baseline", "900")
    assert table.rows[0][-1] == "-"
    off = result_of(faster)
    runs = tuple(
        replace(run, conditions=Conditions(window_ms=1.0, cpu_load=0.5)) if isinstance(run, TimedRun) else run
        for run in off.runs
    )
    assert list(condition_tables(replace(off, runs=runs))) == []


def test_results_with_all_of_it_travel() -> None:
    result = result_of(faster, hot=(4,))
    assert Result.from_json(result.to_json()) == result
