"""Slots that add up leave no rest; slots that interact leave one whose interval says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from bagel_perf.analysis.compare import Session, build_result
from bagel_perf.report.ladder_tables import ablation_lines
from bagel_perf.report.tables import result_tables
from bagel_perf.schema.ablations import Ablation
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.results import Result
from bagel_perf.schema.runs import Run
from scripted import ENVIRONMENT, make_plan, make_runs

RUNG = "pr3987"
SAVES = {
    "adjust_positions": 50.0,
    "route_experts": 30.0,
    "attention_lengths": 7.0,
    "merge_kv": 0.0,
    "timestep_schedule": 3.0,
}
PLAN = replace(make_plan(variants=("baseline", RUNG)), ablate=True, ladder=True)


def slots_of(plan: Plan) -> dict[str, frozenset[str]]:
    """The slots of the rung that each variant has."""
    found = {"baseline": frozenset[str](), RUNG: frozenset(SAVES)}
    for each in plan.mixtures:
        assert each.left_in is not None and each.left_out is not None
        found |= {each.left_in: frozenset({each.slot}), each.left_out: frozenset(SAVES) - {each.slot}}
    return found


def measured(saves: Callable[[frozenset[str]], float], pairs: int = 6, *, wrong: str = "") -> Result:
    """A comparison in which round i is i * 100 ms slower for all, and a variant saves what its slots do."""
    slots = slots_of(PLAN)

    def timed(run: Run) -> Run:
        if run.purpose != "timed":
            return run
        assert run.round is not None
        ms = 1000.0 + 100.0 * run.round - saves(slots[run.variant])
        return replace(run, measurements=tuple(replace(each, latency_ms=ms) for each in run.measurements))

    everything = replace(PLAN, variants=PLAN.measured, ablate=False)
    runs = [timed(run) for run in make_runs(everything, pairs)]
    runs = [
        replace(run, picture=replace(run.picture, md5="0")) if wrong and run.variant == wrong else run for run in runs
    ]
    session = Session(command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=pairs, warmup=1)
    return build_result(PLAN, ENVIRONMENT, runs, session)


def adding_up(slots: frozenset[str]) -> float:
    return sum(SAVES[slot] for slot in slots)


def interacting(slots: frozenset[str]) -> float:
    """Two waits that hide each other: either alone saves little."""
    return adding_up(slots) - (45.0 if len(slots & {"adjust_positions", "route_experts"}) == 1 else 0.0)


def dit_of(result: Result) -> Ablation:
    return next(each for each in result.ablations if each.stage == "dit")


def test_what_slots_save_adds_up() -> None:
    ablation = dit_of(measured(adding_up))
    assert {each.slot: each.alone and each.alone.ms for each in ablation.slots} == pytest.approx(SAVES)
    assert {each.slot: each.last and each.last.ms for each in ablation.slots} == pytest.approx(SAVES)
    assert ablation.total.ms == pytest.approx(90.0)
    assert ablation.rest is not None and ablation.rest.ms == pytest.approx(0.0, abs=1e-9)


def test_slots_that_interact_are_named() -> None:
    result = measured(interacting)
    ablation = dit_of(result)
    assert ablation.rest is not None and ablation.rest.ms == pytest.approx(90.0) and ablation.rest.is_shown
    apart = {each.slot for each in ablation.slots if each.apart is not None and abs(each.apart.ms) > 1e-6}
    assert apart == {"adjust_positions", "route_experts"}
    line = next(line for line in ablation_lines(result) if "DiT" in line)
    assert "they interact: +90.0 of 90.0 ms saved are no slot's alone" in line
    assert line.endswith("alone another amount than last: adjust_positions, route_experts")


def test_five_rounds_do_not_say_whether_slots_add_up() -> None:
    lines = [*ablation_lines(measured(interacting, pairs=5))]
    assert all(line.endswith("too few rounds to say whether the slots add up") for line in lines)


def test_a_mixture_with_a_wrong_picture_saves_nothing_and_fails_the_comparison() -> None:
    left_in = next(each.left_in for each in PLAN.mixtures if each.slot == "route_experts")
    assert left_in is not None
    result = measured(adding_up, wrong=left_in)
    assert result.exit_code == 3
    ablation = dit_of(result)
    saving: Mapping[str, object] = {each.slot: each.alone for each in ablation.slots}
    assert saving["route_experts"] is None and saving["merge_kv"] is not None
    assert ablation.rest is None


def test_a_missing_mixture_is_incomplete() -> None:
    full = measured(adding_up)
    runs = [run for run in full.runs if run.variant != PLAN.measured[-1]]
    session = Session(command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=6, warmup=1)
    result = build_result(PLAN, ENVIRONMENT, runs, session)
    assert (result.verdict, result.exit_code) == ("incomplete", 6)


def test_mixtures_stand_in_the_tables_of_slots_and_pictures_alone() -> None:
    result = measured(adding_up)
    assert Result.from_json(result.to_json()) == result
    tables = {table.title: table for table in result_tables(result)}
    ladder, slots = "ladder at 256x256", f"slots of {RUNG} at 256x256"
    place = "Latency on NVIDIA H200, 7b preset"
    assert list(tables) == [f"{place}: {ladder}", f"{place}: {slots}", "Host syncs", "Pictures"]
    assert [row[1] for row in tables[f"{place}: {ladder}"].rows] == ["baseline", RUNG] * 3
    assert tables[f"{place}: {slots}"].rows[0] == (
        "AR",
        "adjust_positions",
        "50.0",
        "50.0 to 50.0",
        "50.0",
        "50.0 to 50.0",
    )
    assert len(tables["Pictures"].rows) == len(PLAN.measured)


def test_steps_are_from_each_variant_to_the_next() -> None:
    plan = replace(make_plan(variants=("baseline", "pr3987", "sync_free")), ladder=True)
    session = Session(command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=6, warmup=1)
    result = build_result(plan, ENVIRONMENT, list(make_runs(plan, 6)), session)
    steps = {(step.reference, step.candidate): step.delta_pct for step in result.steps if step.stage == "dit"}
    assert steps == pytest.approx({("baseline", "pr3987"): -10.0, ("pr3987", "sync_free"): -100 / 3})
    row = next(table for table in result_tables(result) if "ladder" in table.title).rows[5]
    assert row[:3] == ("DiT", "sync_free", "1350.0")
    assert row[3:5] == ("-33.3% (-33.3 to -33.3)", "-40.0% (-40.0 to -40.0)")
