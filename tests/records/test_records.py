"""Records refuse what cannot be, and survive JSON."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from msgspec.structs import replace

from bagel_perf.records import codec
from bagel_perf.records.bagel import (
    BUILT_IN,
    COMPONENTS,
    Request,
    best_bitwise,
    parse_resolution,
    parse_variant,
    parse_variants,
)
from bagel_perf.records.errors import UsageError
from bagel_perf.records.plans import Plan
from bagel_perf.records.runs import (
    AnyRun,
    CountedRun,
    CountedStage,
    Run,
    TensorCheck,
    TimedRun,
    TimedStage,
    differing_fields,
)
from scripted import CPU, ENVIRONMENT, make_plan, make_run, make_runs


@pytest.mark.parametrize(("text", "size"), [("1024", (1024, 1024)), ("768x1024", (768, 1024)), (" 16x32 ", (16, 32))])
def test_a_resolution_is_width_by_height(text: str, size: tuple[int, int]) -> None:
    assert parse_resolution(text) == size


@pytest.mark.parametrize(
    "text", ["1000", "1040", "0", "8", "256x", "x256", "256x256x3", "-256", "big", "", "256.0", "२५६"]
)
def test_an_impossible_resolution_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_resolution(text)


def test_the_message_names_the_nearest_resolution() -> None:
    with pytest.raises(UsageError, match=r"1000x1000.*multiple of 16 from 16 to 1024.*992 is the nearest"):
        parse_resolution("1000")


@pytest.mark.parametrize("field", [{"steps": 1}, {"prompt": " \n"}, {"width": 100}, {"seed": -1}])
def test_an_impossible_request_is_a_usage_error(field: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Request(**{"width": 256, "height": 256, **field})  # type: ignore[arg-type]


def test_text_to_image_takes_no_picture() -> None:
    assert Request(task="i2i", width=16, height=16, image="a.png").image == "a.png"
    with pytest.raises(UsageError, match=r"a\.png"):
        Request(task="t2i", width=16, height=16, image="a.png")


@pytest.mark.parametrize("variant", [built_in.name for built_in in BUILT_IN])
def test_a_variant_fills_every_component(variant: str) -> None:
    assert dict(parse_variant(variant).built_in_by_component) == dict.fromkeys(COMPONENTS, variant)


def test_plus_takes_a_component_from_the_best_bitwise_variant_and_minus_puts_it_back_to_the_baseline() -> None:
    best, first = "sync_free", "baseline"
    variant = parse_variant("pr3987+merge_kv-timestep_schedule+route_experts")
    expected = {
        **dict.fromkeys(COMPONENTS, "pr3987"),
        "merge_kv": best,
        "route_experts": best,
        "timestep_schedule": first,
    }
    assert dict(variant.built_in_by_component) == expected
    assert variant.name == "pr3987+merge_kv-timestep_schedule+route_experts"


@pytest.mark.parametrize(
    ("text", "min_psnr_db"),
    [
        *((built_in.name, built_in.min_psnr_db) for built_in in BUILT_IN),
        ("baseline+denoise_loop", None),
        ("approx_norm-pack_contexts", 40.0),
        ("approx_norm-denoise_loop-merge_kv", 40.0),
        ("approx_norm-norm_activate", None),
    ],
)
def test_a_variant_is_held_to_the_tolerance_of_the_variants_that_fill_its_components(
    text: str, min_psnr_db: float | None
) -> None:
    assert parse_variant(text).min_psnr_db == min_psnr_db


def test_one_variant_has_a_tolerance_and_those_below_are_bitwise() -> None:
    assert [built_in.name for built_in in BUILT_IN if not built_in.is_bitwise] == ["approx_norm"]
    assert best_bitwise().name == BUILT_IN[-2].name == "fused"


def test_plus_takes_a_component_of_the_best_bitwise_variant_and_none_with_a_tolerance() -> None:
    assert parse_variant("approx_norm+norm_activate").owners == parse_variant("fused").owners
    problem = r"^variants are the same \(fused, approx_norm\+norm_activate\); name one of the two$"
    with pytest.raises(UsageError, match=problem):
        parse_variants("fused,approx_norm+norm_activate")


@pytest.mark.parametrize("text", ["baseline,baseline", "baseline+merge_kv+step_input,baseline+step_input+merge_kv"])
def test_variants_that_are_alike_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_variants(text)


def test_a_plan_survives_json() -> None:
    plan = replace(make_plan(((256, 256), (768, 1024))), pairs=7, weights="weights", preset="tiny")
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ({"variants": ["baseline"]}, "too few variants"),
        ({"variants": "baseline"}, "variants"),
        ({"requests": []}, "no resolution"),
        ({"pairs": 0}, "pairs"),
        ({"warmup": -1}, "warm-ups"),
        ({"preset": "13b"}, "preset"),
        ({"device": None}, "device"),
        ({"order_seed": "a"}, "order_seed"),
        ({"order_seed": True}, "order_seed"),
        ({"schema": "bagel-perf.result"}, "bagel-perf.plan"),
        ({"version": 2}, "version"),
        ({"requests": [{"width": 256}]}, r"requests\[0\]\.height"),
        (
            {"requests": [{"width": 256, "height": 256, "guidance": {"interval": [0]}}]},
            r"requests\[0\]\.guidance\.interval",
        ),
    ],
)
def test_a_foreign_plan_is_refused_by_the_name_of_its_key(field: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Plan.from_json({**make_plan().to_json(), **field})


def test_unknown_keys_are_ignored_so_that_older_readers_go_on() -> None:
    assert Plan.from_json({**make_plan().to_json(), "color": "blue"}) == make_plan()


def test_a_resolution_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        make_plan(((256, 256), (256, 256)))


OWN_FIELDS = {
    "count": {"measurements", "round", "sync_device", "sites"},
    "repeat": {"measurements"},
    "other_seed": set[str](),
    "profile": {"measurements"},
    "warmup": {"captures_ms"},
    "timed": {"measurements", "round", "is_control", "conditions"},
}


def test_counting_and_timing_never_share_a_run() -> None:
    common = set(AnyRun.__struct_fields__)
    found = {kind.__struct_config__.tag: set(kind.__struct_fields__) - common for kind in get_args(Run)}
    assert found == OWN_FIELDS


NEUTRAL: dict[str, object] = {
    "sites": [],
    "sync_device": None,
    "captures_ms": [],
    "is_control": False,
    "conditions": None,
}
OF_A_STAGE = {"latency_ms": None, "host_syncs": None, "peak_bytes": None, "work": None, "counters": None}


def test_files_in_which_every_run_has_all_fields_still_read() -> None:
    """As every file from before 2026-12 has them, empty where the purpose has none."""
    for run in make_runs(make_plan()):
        data = codec.to_json(run)
        stages = [{**OF_A_STAGE, **each} for each in data.get("measurements", [])]
        assert codec.from_json(Run, {"round": None, **NEUTRAL, **data, "measurements": stages}) == run


@pytest.mark.parametrize(
    "changed",
    [{"round": None}, {"measurements": [{"stage": "ar"}]}, {"measurements": [{"stage": "ar", "latency_ms": None}]}],
)
def test_a_timed_run_without_a_round_or_a_latency_is_refused(changed: dict[str, object]) -> None:
    data = codec.to_json(make_run(TimedRun, "baseline", Request(width=16, height=16), 0))
    with pytest.raises(UsageError):
        codec.from_json(Run, {**data, **changed})


def test_a_counted_run_leaves_open_what_could_not_be_judged() -> None:
    run = make_run(CountedRun, "baseline", Request(width=16, height=16))
    assert replace(run, measurements=(CountedStage(stage="ar"),)).measurements[0].host_syncs is None


def test_a_stage_is_measured_once_a_run() -> None:
    run = make_run(TimedRun, "baseline", Request(width=16, height=16), 0)
    with pytest.raises(UsageError, match="twice"):
        replace(run, measurements=run.measurements * 2)


@pytest.mark.parametrize("latency_ms", [0.0, -1.0, float("nan")])
def test_a_latency_is_positive(latency_ms: float) -> None:
    with pytest.raises(UsageError):
        TimedStage(stage="ar", latency_ms=latency_ms)


def test_a_tensor_check_cannot_contradict_itself() -> None:
    with pytest.raises(UsageError):
        TensorCheck(variant="baseline", tensor="x", error=float("nan"), limit=1.0, ok=True)


def test_unlike_environments_are_told_apart_by_field() -> None:
    assert differing_fields(ENVIRONMENT, ENVIRONMENT) == ()
    assert differing_fields(ENVIRONMENT, replace(ENVIRONMENT, torch="2.13.0", num_threads=1)) == (
        "torch",
        "num_threads",
    )
    assert "device_kind" in differing_fields(ENVIRONMENT, CPU)
