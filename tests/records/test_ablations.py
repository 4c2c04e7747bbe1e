"""An ablation names, for each component of a variant, the mixtures that the grammar allows."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bagel_perf.records.ablations import component_mixtures
from bagel_perf.records.bagel import COMPONENTS, parse_variant
from bagel_perf.records.errors import UsageError
from bagel_perf.records.plans import Plan
from scripted import make_plan

BEST = "fused"


def test_every_component_of_the_best_variant_is_left_in_and_what_its_loop_needs_not_is_never_left_out() -> None:
    found = {each.component: each for each in component_mixtures(BEST)}
    assert list(found) == [component for component in COMPONENTS if component in found]
    assert found["merge_kv"].left_in == "baseline+merge_kv"
    assert found["denoise_loop"].left_out == f"{BEST}-denoise_loop"
    swallowed = {component for component, each in found.items() if each.swallowed}
    assert swallowed == {component for component, each in found.items() if each.left_out is None}
    assert swallowed == {"step_input", "merge_kv", "attention_lengths", "route_experts"}


@pytest.mark.parametrize("variant", ["pr3987", "sync_free", "captured", BEST])
def test_a_mixture_differs_from_its_end_in_one_component(variant: str) -> None:
    base, whole = parse_variant("baseline").owners, parse_variant(variant).owners
    for each in component_mixtures(variant):
        index = COMPONENTS.index(each.component)
        for name, start, other in ((each.left_in, base, whole), (each.left_out, whole, base)):
            if name is not None:
                expected = (*start[:index], other[index], *start[index + 1 :])
                assert parse_variant(name).owners == expected


def test_a_variant_below_the_best_is_taken_apart_with_its_own_components() -> None:
    found = {each.component: each for each in component_mixtures("pr3987")}
    assert set(found) == set(COMPONENTS) - {
        "encode_picture",
        "pack_contexts",
        "prefill_layers",
        "branch_offsets",
        "step_input",
        "denoise_loop",
        "norm_activate",
    }
    alone = found["merge_kv"].left_in
    assert alone is not None and alone.startswith("pr3987-")
    assert "merge_kv" not in alone


def test_a_recording_loop_cannot_stand_alone_over_components_that_wait() -> None:
    found = {each.component: each for each in component_mixtures("captured")}
    assert found["denoise_loop"].left_in is None
    assert found["merge_kv"].left_out is None


def test_a_plan_runs_the_mixtures_once_each_and_knows_those_that_were_named() -> None:
    plan = replace(make_plan(variants=("baseline", "baseline+merge_kv", BEST)), ablate=True)
    assert plan.measured[:3] == plan.variants
    owners = [parse_variant(name).owners for name in plan.measured]
    assert len(set(owners)) == len(owners) == 3 + 11 + 8
    assert make_plan(variants=("baseline", BEST)).measured == ("baseline", BEST)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("variants", [("pr3987", BEST), ("baseline", "sync_free-merge_kv"), (BEST, "baseline")])
def test_only_a_variant_against_the_baseline_is_taken_apart(variants: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"cannot be taken apart .*--variants baseline,"):
        replace(make_plan(variants=variants), ablate=True)
