"""Whose waits count: those of all threads, or of the one that opened the watch with its backward passes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bagel_perf.records.errors import Inconclusive, UsageError
from bagel_perf.simulated import SimulatedDevice
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import SyncBudgetExceeded, region, sites, watch_host_syncs
from fake_waits import Source, loss_with


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_only_the_thread_that_opened_the_watch_counts_and_a_note_tells_of_the_others() -> None:
    with SimulatedDevice() as device:
        scalar = device.wrap(torch.ones(()))

        def thrice() -> None:
            for _ in range(3):
                scalar.item()

        with watch_host_syncs(device.device, budgets={"": 1}, threads="this") as this:
            scalar.item()
            in_thread(thrice)
        with watch_host_syncs(device.device, threads="all") as all_of_them:
            scalar.item()
            in_thread(thrice)
    report = this.report()
    assert (report.host_syncs, report.notes) == (1, ("3 waits on other threads, not counted",))
    assert [site.function for site in report.sites] == [
        "test_only_the_thread_that_opened_the_watch_counts_and_a_note_tells_of_the_others"
    ]
    assert (all_of_them.host_syncs, all_of_them.report().notes) == (4, ())


def test_a_thread_that_does_not_count_meets_no_error() -> None:
    with SimulatedDevice() as device:
        scalar, problems = device.wrap(torch.ones(())), list[BaseException]()

        def read() -> None:
            try:
                scalar.item()
            except SyncBudgetExceeded as problem:
                problems.append(problem)

        with watch_host_syncs(device.device, on_wait="raise", threads="this") as watch:
            in_thread(read)
    assert (problems, watch.host_syncs, watch.report().notes) == ([], 0, ("1 wait on other threads, not counted",))


def test_a_region_of_another_thread_keeps_no_budget() -> None:
    with SimulatedDevice() as device:

        def step() -> None:
            with region("step"):
                pass

        with (
            pytest.raises(SyncBudgetExceeded, match=r"never entered \(step\)"),
            watch_host_syncs(device.device, budgets={"step": 0}, threads="this"),
        ):
            in_thread(step)


def test_what_cannot_be_judged_on_another_thread_opens_no_budget() -> None:
    def work() -> None:
        torch.zeros(3, 2, device="cuda").unique(dim=0)

    with SimulatedCuda(), watch_host_syncs("cuda", budgets={"": 0}, threads="this") as watch:
        in_thread(work)
    assert watch.report().unjudged == {}
    with SimulatedCuda(), pytest.raises(Inconclusive), watch_host_syncs("cuda", budgets={"": 0}, threads="this"):
        work()


def test_a_backward_pass_counts_for_the_thread_that_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source()
    monkeypatch.setattr(sites, "require_callbacks", lambda: None)
    monkeypatch.setattr(sites, "listening_to_cuda", source.listening)
    losses: list[Tensor] = [loss_with(source.wait_in_torch) for _ in range(3)]
    with watch_host_syncs("cuda", debug_mode=False, threads="this") as watch:
        losses[0].backward()
        in_thread(losses[1].backward)
        in_thread(losses[2].backward)
    report = watch.report()
    assert (report.host_syncs, report.notes) == (1, ("2 waits on other threads, not counted",))
    assert (report.witnesses.callbacks, report.unexplained) == (3, 0), "the instrument saw them all"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"threads": "mine"}, r"threads \('mine'\); 'all' or 'this'"),
        ({"threads": "this", "profile": True}, r"threads \('this'\); a profile has the waits of all; leave one"),
    ],
)
def test_what_cannot_be_watched_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        watch_host_syncs("cuda", **words).__enter__()
