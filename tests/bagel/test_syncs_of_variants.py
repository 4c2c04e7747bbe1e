"""``syncs`` on a variant: the table adds up to ``compare``'s counts, and every site is a line of the kernels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from bagel_perf.records.bagel import Request
from bagel_perf.records.errors import EnvironmentUnfit
from bagel_perf.records.events import EnvironmentEvent, Event, SyncsEvent, parse_event, to_line
from bagel_perf.records.plans import Plan
from bagel_perf.records.syncs import Instrument, SyncReport, is_within
from bagel_perf.subjects.bagel.bench import count_stages
from bagel_perf.subjects.bagel.edit import edit_subject, request_inputs
from bagel_perf.subjects.bagel.loading import VARIANTS, Loaded, bind, load, with_regions
from bagel_perf.subjects.bagel.syncs import overlap, run_syncs
from bagel_perf.syncs.cost import measure_instrument, without_instrument
from cheap_model import cheap_model


def make_plan(variant: str, side: int, budgets: dict[str, int] | None = None) -> Plan:
    request = Request(width=side, height=side)
    return Plan(kind="syncs", requests=(request,), variants=(variant,), device="cpu", budgets=budgets or {})


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    """With 2 x 2 pixels a latent token, so that requests of 32 and 64 have the tokens of 256 and 512."""
    with cheap_model(num_layers=2, num_levels=1) as model:
        yield dataclasses.replace(load(make_plan("baseline", 32), lambda *_: None), model=model)


def watched(plan: Plan, loaded: Loaded) -> SyncReport:
    events: list[Event] = []
    run_syncs(plan, loaded, events.append)
    assert isinstance(events[0], EnvironmentEvent)
    last = parse_event(to_line(events[-1]))
    assert isinstance(last, SyncsEvent)
    return last.report


@pytest.mark.parametrize("side", [32, 64])  # from 64 on latents are enough for contexts to share them
@pytest.mark.parametrize("variant", VARIANTS)
def test_sites_add_up_to_the_counts_of_compare_and_lie_in_the_kernels(loaded: Loaded, variant: str, side: int) -> None:
    plan = make_plan(variant, side)
    report = watched(plan, loaded)
    inputs = request_inputs(plan.requests[0], loaded.model.config, None, plan.requests[0].seed)
    counts = count_stages(loaded.model, lambda model: edit_subject(model, inputs, with_regions(bind(variant))))
    assert {m.stage: m.host_syncs for m in counts.measurements} == {
        stage: report.total(stage) for stage in ("ar", "dit")
    }
    assert report.host_syncs == sum(site.count for site in report.sites) > 0
    assert [site.file for site in report.sites if not site.file.startswith(("kernels_baseline/", "kernels_op"))] == []
    assert all(site.kind != "unknown" and site.expressions and site.region for site in report.sites)
    assert (report.unexplained, report.unjudged, report.device) == (0, {}, "simulated")


def test_the_copy_of_the_picture_is_allowed_and_nothing_else(loaded: Loaded) -> None:
    allowed = [site for site in watched(make_plan("sync_free", 32), loaded).sites if site.allowed]
    assert [(site.file, site.kind) for site in allowed] == [("kernels_baseline/picture.py", "d2h_copy")]


def test_budgets_are_kept_or_not_and_the_report_arrives_either_way(loaded: Loaded) -> None:
    report = watched(make_plan("pr3987", 32, {"step": 7, "ar": 0}), loaded)
    step, ar = report.budgets
    assert (step.num_entries, step.worst, step.ok) == (14, 10, False)
    assert (ar.worst, ar.ok) == (report.total("ar"), False)
    assert report.budget_error() is not None
    assert watched(make_plan("sync_free", 32, {"": 0, "step": 0}), loaded).budget_error() is None


@pytest.mark.parametrize(
    ("changes", "option"), [({"check_saving": True}, "--check-saving"), ({"trace_path": "t.json.gz"}, "--keep-trace")]
)
def test_the_simulated_device_has_no_predicted_saving_to_check_and_no_trace_to_keep(
    loaded: Loaded, changes: dict[str, Any], option: str
) -> None:
    with pytest.raises(EnvironmentUnfit, match=f"takes no time .{option}.; run it on a GPU"):
        watched(replace(make_plan("baseline", 32), **changes), loaded)


def test_a_predicted_saving_is_freed_of_what_the_instruments_added() -> None:
    instrument = Instrument(wait_us=10, call_us=1, plain_wait_us=12, plain_wall_ms=50, watched_wall_ms=100)
    # 1000 waits: at least 30 - 10 ms alone, at most half of 60 ms with what computes for them
    assert without_instrument((30, 60), 1000, instrument) == (20, 30)
    # on an idle GPU a wait takes 12 us, however much the instruments added
    assert without_instrument((15, 60), 1000, instrument) == (12, 30)
    # a wait whose GPU stays busy costs nothing
    assert without_instrument((0, 0), 1000, instrument) == (0, 0)
    assert without_instrument(None, 1000, instrument) is None


@pytest.mark.parametrize(
    ("measured", "agrees"), [((25, 40), True), ((30, 31), True), ((31, 40), False), ((1, 19), False), (None, None)]
)
def test_a_prediction_agrees_where_the_intervals_overlap(
    measured: tuple[float, float] | None, agrees: bool | None
) -> None:
    assert overlap((20, 30), measured) is agrees


def test_regions_contain_what_lies_in_them() -> None:
    assert is_within("dit/step", "dit") and is_within("dit", "dit") and is_within("dit", "")
    assert not is_within("dit2/step", "dit") and not is_within("dit", "dit/step")


@pytest.mark.gpu
def test_the_instruments_of_a_gpu_cost_something() -> None:
    import torch

    from bagel_perf.syncs import watch_host_syncs

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    cost = measure_instrument(torch.device("cuda"), lambda: watch_host_syncs("cuda"))
    assert cost.wait_us > 0 and 1 < cost.plain_wait_us < 200
