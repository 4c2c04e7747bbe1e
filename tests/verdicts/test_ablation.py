"""Components that add up leave no rest; components that interact leave one whose interval says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import pytest
from msgspec.structs import replace

from bagel_perf.records.ablations import Ablation, Saving
from bagel_perf.records.plans import Plan
from bagel_perf.records.results import Result
from bagel_perf.records.runs import Run, TimedRun
from bagel_perf.report.ablation_tables import ablation_lines
from bagel_perf.report.tables import result_tables
from bagel_perf.verdicts.changes import additivity
from bagel_perf.verdicts.compare import Session, build_result
from scripted import ENVIRONMENT, make_outline, make_plan, make_runs

BEST = "pr3987"
SAVES = {
    "adjust_positions": 50.0,
    "route_experts": 30.0,
    "attention_lengths": 7.0,
    "merge_kv": 0.0,
    "timestep_schedule": 3.0,
}
PLAN = replace(make_plan(variants=("baseline", BEST)), ablate=True, successive=True)


def components_of(plan: Plan) -> dict[str, frozenset[str]]:
    """The components of the variant that each variant has."""
    found = {"baseline": frozenset[str](), BEST: frozenset(SAVES)}
    for each in plan.mixtures:
        assert each.left_in is not None and each.left_out is not None
        found |= {each.left_in: frozenset({each.component}), each.left_out: frozenset(SAVES) - {each.component}}
    return found


def measured(
    saves: Callable[[frozenset[str]], float],
    pairs: int = 6,
    *,
    wrong: str = "",
    jitter: Mapping[int, float] = MappingProxyType({}),
) -> Result:
    """A comparison in which round i is i * 100 ms slower for all, and a variant saves what its components do.

    ``jitter`` is what the reference takes longer in a round.
    """
    components = components_of(PLAN)

    def timed(run: Run) -> Run:
        if not isinstance(run, TimedRun):
            return run
        ms = 1000.0 + 100.0 * run.round - saves(components[run.variant])
        ms += jitter.get(run.round, 0.0) if run.variant == "baseline" else 0.0
        return replace(run, measurements=tuple(replace(each, latency_ms=ms) for each in run.measurements))

    everything = replace(PLAN, variants=PLAN.measured, ablate=False)
    runs = [timed(run) for run in make_runs(everything, pairs)]
    runs = [
        replace(run, output=replace(run.output, md5="0")) if wrong and run.variant == wrong else run for run in runs
    ]
    session = Session(
        command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=pairs, warmup=1, order_seed=0, processes=pairs
    )
    return build_result(make_outline(PLAN), ENVIRONMENT, runs, session)


def adding_up(components: frozenset[str]) -> float:
    return sum(SAVES[component] for component in components)


def interacting(components: frozenset[str]) -> float:
    """Two waits that hide each other: either alone saves little."""
    return adding_up(components) - (45.0 if len(components & {"adjust_positions", "route_experts"}) == 1 else 0.0)


def dit_of(result: Result) -> Ablation:
    return next(each for each in result.ablations if each.stage == "dit")


def test_what_components_save_adds_up() -> None:
    ablation = dit_of(measured(adding_up))
    assert {each.component: each.alone and each.alone.ms for each in ablation.components} == pytest.approx(SAVES)
    assert {each.component: each.last and each.last.ms for each in ablation.components} == pytest.approx(SAVES)
    assert ablation.total.ms == pytest.approx(90.0)
    assert ablation.rest is not None and ablation.rest.ms == pytest.approx(0.0, abs=1e-9)


def test_components_that_interact_are_named() -> None:
    result = measured(interacting)
    ablation = dit_of(result)
    assert ablation.rest is not None and ablation.rest.ms == pytest.approx(90.0) and ablation.rest.is_shown
    apart = {each.component for each in ablation.components if each.apart is not None and abs(each.apart.ms) > 1e-6}
    assert apart == {"adjust_positions", "route_experts"}
    line = next(line for line in ablation_lines(result) if "DiT" in line)
    share = "together they save 90.0 ms, 90.0 ms better than one by one (+90.0 to +90.0)"
    assert f"they interact: {share}; alone another amount than last: adjust_positions, route_experts" in line
    assert line.endswith(" (of 5 intervals, not corrected for their number)")


def judged(rest: tuple[float, float] | None, total: float = 90.0) -> Ablation:
    """An ablation whose rest has this interval."""
    saving = None if rest is None else Saving(ms=sum(rest) / 2, ci_ms=rest, num_rounds=6)
    return replace(dit_of(measured(adding_up)), total=Saving(ms=total, ci_ms=(total, total), num_rounds=6), rest=saving)


@pytest.mark.parametrize(
    ("rest", "state"),
    [
        ((-4.5, 4.5), "add up"),
        ((-4.6, 4.5), "too noisy"),
        ((-4.5, 4.6), "too noisy"),
        ((-40.0, 90.0), "too noisy"),
        ((1.0, 4.0), "add up"),
        ((1.0, 5.0), "interact"),
        ((-5.0, -1.0), "interact"),
        (None, "not timed"),
    ],
)
def test_components_add_up_where_all_that_the_rest_may_be_is_small(
    rest: tuple[float, float] | None, state: str
) -> None:
    assert additivity(judged(rest)) == state
    assert additivity(judged(rest, total=-90.0)) == state


def test_noise_is_no_proof_that_components_add_up() -> None:
    result = measured(adding_up, jitter={1: 30.0, 4: -30.0})
    line = next(line for line in ablation_lines(result) if "DiT" in line)
    assert "too noisy to say whether they add up: together they save 90.0 ms, 0.0 ms better than one by one" in line


def test_components_that_add_up_are_said_to_with_the_limit_in_the_caption() -> None:
    result = measured(adding_up)
    line = next(line for line in ablation_lines(result) if "DiT" in line)
    assert "they add up: together they save 90.0 ms, 0.0 ms" in line
    caption = caption_of(result)
    assert "The components add up where all of its interval lies within 5% of all together." in caption
    assert "36 intervals are not corrected for their number." in caption
    assert "Each interval by itself covers 96.9%." in caption


def test_what_costs_time_is_not_said_to_save_it() -> None:
    line = next(line for line in ablation_lines(measured(lambda components: -adding_up(components))) if "DiT" in line)
    assert "they add up: together they cost 90.0 ms, 0.0 ms" in line
    worse = measured(lambda components: -interacting(components))
    line = next(line for line in ablation_lines(worse) if "DiT" in line)
    assert "they interact: together they cost 90.0 ms, 90.0 ms worse than one by one (-90.0 to -90.0)" in line


def test_the_footnote_stands_where_a_row_has_it() -> None:
    result = measured(adding_up)
    assert "*" not in caption_of(result)
    for component, words in (
        ("merge_kv", "denoise_loop does"),
        ("route_experts", "denoise_loop and prefill_layers do"),
    ):
        ablations = tuple(
            replace(each, components=(replace(each.components[0], component=component, swallowed=True),))
            for each in result.ablations
        )
        assert caption_of(replace(result, ablations=ablations)).endswith(
            f" * marks a part of what {words}, which is not in that sum."
        )


def test_under_six_processes_a_saving_names_them() -> None:
    result = measured(adding_up, pairs=5)
    table = next(table for table in result_tables(result) if "components of" in table.title)
    assert table.rows[0] == ("AR", "adjust_positions", "50.0", "5 processes", "50.0", "5 processes")
    assert table.caption.startswith("Medians are of 5 rounds. Alone, ")
    assert "interval," not in table.caption and "cover" not in table.caption


def caption_of(result: Result) -> str:
    return next(table.caption for table in result_tables(result) if "components of" in table.title)


def test_five_processes_do_not_say_whether_components_add_up() -> None:
    lines = [*ablation_lines(measured(interacting, pairs=5))]
    assert all(line.endswith("too few processes to say whether the components add up") for line in lines)


def test_a_mixture_with_a_wrong_picture_saves_nothing_and_fails_the_comparison() -> None:
    left_in = next(each.left_in for each in PLAN.mixtures if each.component == "route_experts")
    assert left_in is not None
    result = measured(adding_up, wrong=left_in)
    assert result.exit_code == 3
    ablation = dit_of(result)
    saving: Mapping[str, object] = {each.component: each.alone for each in ablation.components}
    assert saving["route_experts"] is None and saving["merge_kv"] is not None
    assert ablation.rest is None


def test_a_missing_mixture_is_incomplete() -> None:
    full = measured(adding_up)
    runs = [run for run in full.runs if run.variant != PLAN.measured[-1]]
    session = Session(
        command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=6, warmup=1, order_seed=0, processes=6
    )
    result = build_result(make_outline(PLAN), ENVIRONMENT, runs, session)
    assert (result.verdict, result.exit_code) == ("incomplete", 6)


def test_mixtures_stand_in_the_tables_of_components_and_pictures_alone() -> None:
    result = measured(adding_up)
    assert Result.from_json(result.to_json()) == result
    tables = {table.title: table for table in result_tables(result)}
    successive, components = "from variant to variant at 256x256", f"components of {BEST} at 256x256"
    place = "Latency on NVIDIA H200, 7b preset"
    assert list(tables) == [f"{place}: {successive}", f"{place}: {components}", "Host syncs", "Pictures"]
    assert [row[1] for row in tables[f"{place}: {successive}"].rows] == ["baseline", BEST] * 3
    assert tables[f"{place}: {components}"].rows[0] == (
        "AR",
        "adjust_positions",
        "50.0",
        "50.0 to 50.0",
        "50.0",
        "50.0 to 50.0",
    )
    assert len(tables["Pictures"].rows) == len(PLAN.measured)


def test_steps_are_from_each_variant_to_the_next() -> None:
    plan = replace(make_plan(variants=("baseline", "pr3987", "sync_free")), successive=True)
    session = Session(
        command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=6, warmup=1, order_seed=0, processes=6
    )
    result = build_result(make_outline(plan), ENVIRONMENT, list(make_runs(plan, 6)), session)
    steps = {(step.reference, step.candidate): step.delta_pct for step in result.steps if step.stage == "dit"}
    assert steps == pytest.approx({("baseline", "pr3987"): -10.0, ("pr3987", "sync_free"): -100 / 3})
    row = next(table for table in result_tables(result) if "from variant to variant" in table.title).rows[5]
    assert row[:3] == ("DiT", "sync_free", "1350.0")
    assert row[3:7] == ("-33.3", "-33.3 (-33.3 to -33.3)", "-40.0", "-40.0 (-40.0 to -40.0)")
