"""Watching any program: regions, allowances, budgets, threads and tasks; on the simulated device."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from bagel_perf.records.syncs import SyncReport
from bagel_perf.simulated import SimulatedDevice
from bagel_perf.syncs import SyncBudgetExceeded, allow_sync, region, watch_host_syncs


@pytest.fixture
def device() -> Iterator[torch.device]:
    with SimulatedDevice() as simulated:
        yield simulated.device


@pytest.fixture
def scalar(device: torch.device) -> Tensor:
    return torch.ones((), device=device)


def counts(report: SyncReport) -> dict[str, int]:
    return {site.region: report.total(site.region) for site in report.sites}


def test_a_report_adds_up_over_nested_regions(scalar: Tensor) -> None:
    with watch_host_syncs(scalar.device) as watch:
        scalar.item()
        with region("denoise"):
            scalar.item()
            for _ in range(3):
                with region("step"):
                    scalar.item()
    report = watch.report("demo")
    assert (report.host_syncs, report.total("denoise"), report.total("denoise/step"), report.total("step")) == (
        5,
        4,
        3,
        0,
    )
    assert report.subject == "demo" and report.device == "simulated" and report.unexplained == 0
    assert report.witnesses.simulated == 5
    assert SyncReport.from_json(report.to_json()) == report


def test_two_expressions_of_a_line_are_one_site_with_both_texts(scalar: Tensor) -> None:
    with watch_host_syncs(scalar.device) as watch:
        answers = [bool(scalar > 0.5), bool(scalar <= 1.0)]
    assert answers == [True, True]
    (site,) = watch.sites
    assert (site.count, site.expressions) == (2, ("bool(scalar > 0.5)", "bool(scalar <= 1.0)"))


def test_a_write_and_a_read_of_a_line_are_told_apart(device: torch.device) -> None:
    x = torch.arange(6.0, device=device)
    mask = x > 2
    with watch_host_syncs(device) as watch:
        x[mask] = x[mask] * 2
    texts = {site.kind: site.expressions for site in watch.sites}
    assert texts == {"mask_gather": ("x[mask]",), "mask_scatter": ("x[mask] = ...",)}


def test_an_allowed_wait_keeps_its_reason_and_is_no_budgets(scalar: Tensor) -> None:
    with watch_host_syncs(scalar.device, budgets={"": 0}) as watch, allow_sync("end-token check"):
        scalar.item()
    (site,) = watch.report().sites
    assert (site.allowed, site.count) == ("end-token check", 1)


def test_an_allowance_covers_at_most_so_many_waits(scalar: Tensor) -> None:
    with watch_host_syncs(scalar.device) as watch:
        for _ in range(2):
            with allow_sync("one read", at_most=1):
                scalar.item()
                scalar.item()
    allowed = {site.allowed: site.count for site in watch.sites}
    assert sum(allowed.values()) == 4 and allowed["one read"] == 2


@pytest.mark.parametrize(("reason", "at_most"), [("", None), ("  ", None), ("fine", -1)])
def test_an_allowance_without_reason_is_refused(reason: str, at_most: int | None) -> None:
    with pytest.raises(ValueError, match="allow_sync"), allow_sync(reason, at_most=at_most):
        pass


def test_a_budget_is_per_entry_and_names_the_lines_that_spent_it(scalar: Tensor) -> None:
    def program() -> None:
        with region("prefill"):
            pass
        for number in range(3):
            with region("step"):
                for _ in range(number + 1):
                    scalar.item()

    watching = watch_host_syncs(scalar.device, budgets={"step": 1, "prefill": 0})
    watch = watching.__enter__()
    program()
    with pytest.raises(SyncBudgetExceeded) as caught:
        watching.__exit__(None, None, None)
    assert "region step waited for the device 3 times (2 of 3 entries over budget); budget 1" in str(caught.value)
    assert "test_watch.py:" in str(caught.value) and caught.value.exit_code == 7
    step, prefill = watch.budgets
    assert (step.num_entries, step.worst, step.num_exceeded, step.ok) == (3, 3, 2, False)
    assert prefill.ok


def test_lines_are_named_for_a_region_with_a_slash_in_its_name(scalar: Tensor) -> None:
    with (
        pytest.raises(
            SyncBudgetExceeded, match=r"region a/b waited .*look at .*test_watch\.py:\d+ \(1 x scalar_read\)"
        ),
        watch_host_syncs(scalar.device, budgets={"a/b": 0}),
        region("outer"),
        region("a/b"),
    ):
        scalar.item()


def test_an_entry_counts_what_regions_inside_it_spend(scalar: Tensor) -> None:
    with watch_host_syncs(scalar.device, budgets={"outer": 9, "inner": 9}) as watch, region("outer"):
        with region("inner"):
            scalar.item()
        scalar.item()
    assert [(check.region, check.worst) for check in watch.budgets] == [("outer", 2), ("inner", 1)]


def test_a_budget_that_guards_nothing_is_not_kept(scalar: Tensor) -> None:
    with (
        pytest.raises(SyncBudgetExceeded, match=r"never entered \(stpe\)"),
        watch_host_syncs(scalar.device, budgets={"stpe": 0}),
        region("step"),
    ):
        pass


@pytest.mark.parametrize("budgets", [{"step": -1}, {"step": "x"}, {"": True}, {"step": 1.5}, 0, [0]])
def test_what_is_no_budget_is_refused(scalar: Tensor, budgets: Any) -> None:
    with pytest.raises(ValueError, match=r"0 or more|by region"), watch_host_syncs(scalar.device, budgets=budgets):
        pass


def test_an_error_of_the_program_is_not_replaced_by_a_budgets(scalar: Tensor) -> None:
    def program() -> None:
        scalar.item()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), watch_host_syncs(scalar.device, budgets={"": 0}):
        program()


def test_threads_have_regions_and_allowances_of_their_own(scalar: Tensor) -> None:
    start = threading.Barrier(2)

    def work(name: str) -> None:
        with region(name), allow_sync(name):
            start.wait()
            for _ in range(50):
                (scalar + 1).item()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    with watch_host_syncs(scalar.device) as watch:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {(site.region, site.allowed, site.count) for site in watch.sites} == {("a", "a", 50), ("b", "b", 50)}


def test_tasks_have_regions_allowances_and_budgets_of_their_own(scalar: Tensor) -> None:
    async def work(name: str) -> None:
        with region(name), allow_sync(f"for {name}"):
            for _ in range(5):
                scalar.item()
                await asyncio.sleep(0)
        with region("shared"):
            scalar.item()

    async def both() -> None:
        await asyncio.gather(work("a"), work("b"))

    with watch_host_syncs(scalar.device, budgets={"shared": 1}) as watch:
        asyncio.run(both())
    found = {(site.region, site.allowed): site.count for site in watch.sites}
    assert found == {("a", "for a"): 5, ("b", "for b"): 5, ("shared", None): 2}
    (shared,) = watch.budgets
    assert (shared.num_entries, shared.worst) == (2, 1)


def test_watches_may_be_nested_and_each_counts(scalar: Tensor) -> None:
    with watch_host_syncs(scalar.device) as outer:
        with watch_host_syncs(scalar.device) as inner:
            scalar.item()
        scalar.item()
    assert (outer.host_syncs, inner.host_syncs) == (2, 1)


def test_a_watch_tells_its_count_while_it_runs(scalar: Tensor) -> None:
    with watch_host_syncs(scalar.device) as watch:
        assert watch.host_syncs == 0
        scalar.item()
        assert watch.host_syncs == 1 and watch.sites[0].kind == "scalar_read"


def test_a_region_is_one_object_while_nobody_watches_and_another_each_time_while_somebody_does(
    scalar: Tensor,
) -> None:
    nothing = region("a")
    assert region("a") is nothing and region("b") is nothing
    with watch_host_syncs(scalar.device):
        first, second = region("a"), region("a")
        assert len({id(each) for each in (nothing, first, second)}) == 3
        with watch_host_syncs(scalar.device):
            pass
        assert region("a") is not nothing, "the outer watch goes on"
    assert region("a") is nothing


def test_a_watch_reports_only_what_the_device_remarked_since_it_began() -> None:
    def remark(device: torch.device, times: int) -> None:
        for _ in range(times):
            torch.zeros(3, 2, device=device).unique(dim=0)  # unjudged
            torch.zeros(3).to(device, non_blocking=True)  # a hazard

    with SimulatedDevice() as simulated:
        remark(simulated.device, 2)
        simulated.remarks("early")
        simulated.remarks("both")
        with watch_host_syncs(simulated.device) as watch:
            reports = [watch.report()]
        with watch_host_syncs(simulated.device) as outer:
            remark(simulated.device, 1)
            with watch_host_syncs(simulated.device) as inner:
                remark(simulated.device, 3)
                simulated.remarks("both")
            reports.append(inner.report())
            simulated.remarks("late")
            simulated.remarks("late")
        reports.append(outer.report())
        assert set(simulated.unjudged.values()) == set(simulated.hazards.values()) == {6}
    assert [report.unjudged for report in reports] == [{}, *(dict.fromkeys(simulated.unjudged, n) for n in (3, 4))]
    assert [report.hazards for report in reports] == [{}, *(dict.fromkeys(simulated.hazards, n) for n in (3, 4))]
    assert [report.notes for report in reports] == [(), ("both (1 x)",), ("both (1 x)", "late (2 x)")]


def test_a_wait_in_a_library_names_the_users_line_too(scalar: Tensor) -> None:
    import statistics  # any code outside torch and outside this program

    values = [scalar, scalar * 2]
    with watch_host_syncs(scalar.device) as watch:
        statistics.median(values)  # type: ignore[type-var]
    (site,) = watch.sites
    assert site.file.endswith("statistics.py")
    assert site.caller is not None and "test_watch.py:" in site.caller


def test_what_comes_after_a_watch_is_not_its() -> None:
    with SimulatedDevice() as device:
        with watch_host_syncs(device.device) as watch:
            pass
        torch.zeros(3, 2, device=device.device).unique(dim=0)
        assert watch.report().unjudged == {}


def test_what_cannot_be_judged_is_told_by_line_and_region_and_what_the_user_answers_for_is_not() -> None:
    with SimulatedDevice() as device:
        weight = torch.ones(2, 8, device=device.device)
        with watch_host_syncs(device.device) as watch:
            for _ in range(2):
                with region("pack"):
                    torch.ops.quantized.embedding_bag_byte_prepack(weight)
            with region("other"):
                weight.sum()
        with watch_host_syncs(
            device.device, quiet_ops={"quantized::embedding_bag_byte_prepack": "no reads", "a.b": "so"}
        ) as quiet:
            torch.ops.quantized.embedding_bag_byte_prepack(weight)
    report = watch.report()
    (site,) = report.unjudged_sites
    assert (site.region, site.count, site.operator) == ("pack", 2, "quantized.embedding_bag_byte_prepack.default")
    assert site.file.endswith("test_watch.py") and site.line > 200
    assert (
        report.unjudged_in("") == report.unjudged_in("pack") == (site.operator,) and report.unjudged_in("other") == ()
    )
    assert SyncReport.from_json(report.to_json()) == report
    assert replace(report, unjudged_sites=()).unjudged_in("other") == (site.operator,), "an older report does not say"
    report = quiet.report()
    assert report.unjudged == {} and report.unjudged_sites == ()
    assert [(each.reason, each.calls) for each in report.quiet_operators] == [("no reads", 1), ("so", 0)]


def test_a_quiet_operator_needs_a_reason() -> None:
    with (
        SimulatedDevice() as device,
        pytest.raises(ValueError, match="no reason"),
        watch_host_syncs(device.device, quiet_ops={"a.b": " "}),
    ):
        pass
