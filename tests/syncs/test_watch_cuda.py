"""Watching on a GPU: threads, backward passes, predicted savings, and programs that use the same instruments."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from bagel_perf.syncs import allow_sync, region, watch_host_syncs
from bagel_perf.syncs.cuda import _dispatcher
from raised_waits import ReadsInBackward

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture
def scalar() -> Tensor:
    scalar = torch.ones((), device="cuda")
    scalar.item()
    return scalar


@pytest.mark.parametrize("profile", [False, True])
def test_waits_of_all_threads_are_seen_by_all_witnesses(scalar: Tensor, profile: bool) -> None:
    started, go = threading.Event(), threading.Event()

    def early() -> None:
        started.set()
        go.wait()
        with region("early"):
            scalar.item()

    def work(number: int) -> None:
        with region(f"worker {number}"):
            for _ in range(4):
                scalar.item()

    thread = threading.Thread(target=early)
    thread.start()
    started.wait()
    with watch_host_syncs("cuda", profile=profile) as watch, ThreadPoolExecutor(3) as pool:
        go.set()
        thread.join()
        list(pool.map(work, range(3)))
    report = watch.report()
    assert (report.host_syncs, report.unexplained) == (13, 0)
    counts = {site.region: site.count for site in report.sites}
    assert counts == {"early": 1, "worker 0": 4, "worker 1": 4, "worker 2": 4}
    assert all(site.file.endswith("test_watch_cuda.py") for site in report.sites)
    if profile:
        assert {site.kind for site in report.sites} == {"scalar_read"}
        assert report.witnesses.cupti == 13


def test_a_wait_in_a_backward_pass_has_the_region_and_the_allowance_of_its_caller(scalar: Tensor) -> None:
    x = torch.ones(4, device="cuda", requires_grad=True)
    with (
        watch_host_syncs("cuda", budgets={"step": 0}) as watch,
        region("step"),
        allow_sync("meant", at_most=1),
    ):
        ReadsInBackward.apply(x).sum().backward()  # type: ignore[no-untyped-call]
    (site,) = watch.sites
    assert (site.region, site.allowed, site.count) == ("step", "meant", 1)
    assert site.function.endswith("backward")


def test_a_wait_of_autograds_own_has_the_line_that_asked_for_the_pass(scalar: Tensor) -> None:
    x = torch.ones(32, 8, device="cuda", requires_grad=True)
    mask = torch.arange(32, device="cuda") % 3 == 0
    y = x[mask].sum()
    y.backward(retain_graph=True)
    with watch_host_syncs("cuda") as watch, region("step"):
        y.backward()
    report = watch.report()
    assert report.unexplained == 0
    assert all(site.region == "step" and site.file.endswith("test_watch_cuda.py") for site in report.sites)


def test_a_program_with_a_profiler_of_its_own_is_counted_and_has_no_predicted_saving(scalar: Tensor) -> None:
    with watch_host_syncs("cuda", profile=True) as watch, torch.profiler.profile() as theirs:
        scalar.item()
    report = watch.report()
    # Their profiler synchronizes the device at its end, as it does without us.
    assert sorted(site.kind for site in report.sites) == ["explicit_sync", "scalar_read"]
    assert (report.host_syncs, report.profile) == (2, None)
    assert any("--no-profile" in note for note in report.notes)
    assert any("item" in row.key for row in theirs.key_averages())


def test_filters_of_the_program_take_no_warning_away(scalar: Tensor) -> None:
    with watch_host_syncs("cuda") as watch:
        warnings.simplefilter("ignore")
        scalar.item()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scalar.item()
            warnings.warn("theirs", stacklevel=1)
    report = watch.report()
    assert (report.witnesses.callbacks, report.witnesses.debug_mode, report.unexplained) == (2, 2, 0)
    assert [str(each.message) for each in caught] == ["theirs"]


def test_a_program_that_sets_the_debug_mode_is_counted_with_a_note(scalar: Tensor) -> None:
    with watch_host_syncs("cuda") as watch:
        torch.cuda.set_sync_debug_mode("default")
        scalar.item()
    report = watch.report()
    assert (report.host_syncs, report.unexplained) == (1, 0)
    assert any("debug mode" in note for note in report.notes)


def test_callbacks_are_off_once_nobody_watches(scalar: Tensor) -> None:
    first, second = watch_host_syncs("cuda"), watch_host_syncs("cuda")
    one = first.__enter__()
    scalar.item()
    two = second.__enter__()
    scalar.item()
    first.__exit__(None, None, None)
    scalar.item()
    second.__exit__(None, None, None)
    assert (one.host_syncs, two.host_syncs) == (2, 2)
    assert _dispatcher.switch.is_there and not _dispatcher.switch.is_on
