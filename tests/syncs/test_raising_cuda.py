"""Waits that raise, on a GPU: right after the wait, at its line, on every way by which the host waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from torch import Tensor

from bagel_perf.syncs import SyncBudgetExceeded, region, watch_host_syncs
from fake_waits import loss_with
from raised_waits import end, raised

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture
def x() -> Tensor:
    x = torch.arange(8.0, device="cuda")
    x.sum().item()
    return x


def ways(x: Tensor) -> dict[str, Callable[[list[str]], object]]:
    """Functions that wait in their second line, and would note what runs after it."""

    def item(after: list[str]) -> None:
        x.sum().item()
        after.append("more")

    def branch(after: list[str]) -> None:
        if x.sum() > 0:
            after.append("more")

    def index(after: list[str]) -> None:
        x[x > 1]
        after.append("more")

    def upload(after: list[str]) -> None:
        torch.tensor([1.0, 2.0], device="cuda")
        after.append("more")

    def device(after: list[str]) -> None:
        torch.cuda.synchronize()
        after.append("more")

    def stream(after: list[str]) -> None:
        torch.cuda.current_stream().synchronize()
        after.append("more")

    def inline(after: list[str]) -> None:
        after.append(str(x.max().tolist()))

    found = (item, branch, index, upload, device, stream, inline)
    return {each.__name__: each for each in found}


@pytest.mark.parametrize("name", ["item", "branch", "index", "upload", "device", "stream", "inline"])
def test_the_traceback_ends_at_the_line_that_waited_and_nothing_runs_after_it(x: Tensor, name: str) -> None:
    after: list[str] = []
    way = ways(x)[name]
    error, watch = raised(lambda: way(after))
    assert (end(error), after, watch.host_syncs) == ((name, 1), [], 1)
    assert "waited for the device, raised after it, as torch lets no error out" in str(error)


def test_the_first_wait_above_an_entrys_limit_raises_and_the_device_works_on(x: Tensor) -> None:
    def program() -> None:
        for times in (2, 3):
            with region("step"):
                for _ in range(times):
                    x.sum().item()

    error, watch = raised(program, budgets={"step": 2})
    assert error.budget is not None and (error.budget.region, watch.host_syncs) == ("step", 5)
    assert x.sum().item() == 28
    assert watch.report().unexplained == 0


def test_a_program_that_catches_it_meets_it_again(x: Tensor) -> None:
    def program() -> None:
        for _ in range(3):
            with suppress(SyncBudgetExceeded):
                x.sum().item()
                raise AssertionError("it did not raise")

    error, watch = raised(program)
    assert error.site is None and watch.host_syncs == 3


def test_the_caller_of_a_backward_pass_meets_its_own_waits_at_the_end(x: Tensor) -> None:
    x.requires_grad_()
    mask = x > 1

    def program() -> None:
        with torch.enable_grad():
            x[rows].prod().backward()

    rows = mask.nonzero()[:, 0]
    error, watch = raised(program)
    assert end(error) == ("program", 2) and watch.host_syncs >= 1
    assert "raised after" in str(error)


def test_a_hook_on_autograds_thread_meets_its_own_wait(x: Tensor) -> None:
    def hook() -> None:
        x.sum().item()

    def program() -> None:
        loss_with(hook, torch.ones(2, device="cuda", requires_grad=True)).backward()

    error, _ = raised(program)
    assert end(error) == ("hook", 1)


def test_a_thread_that_waits_meets_it_itself_or_nobody(x: Tensor) -> None:
    found: list[str] = []

    def work() -> None:
        try:
            x.sum().item()
            found.append("none")
        except SyncBudgetExceeded as error:
            found.append("caught" if error.site is not None and error.site.function.endswith("work") else "another")

    def program() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    assert raised(program)[0].site is None
    with watch_host_syncs("cuda", on_wait="raise", threads="this") as watch:
        x.add_(1)
        program()
    assert found == ["caught", "none"]
    report = watch.report()
    assert (report.host_syncs, report.unexplained) == (0, 0)
    assert "1 wait on other threads, not counted" in report.notes


def test_a_backward_pass_counts_for_the_thread_that_started_it(x: Tensor) -> None:
    def hook() -> None:
        x.sum().item()

    losses = [loss_with(hook, torch.ones(2, device="cuda", requires_grad=True)) for _ in range(2)]
    with watch_host_syncs("cuda", threads="this") as watch:
        losses[0].backward()
        thread = threading.Thread(target=losses[1].backward)
        thread.start()
        thread.join()
    report = watch.report()
    assert report.host_syncs == 1 and "1 wait on other threads, not counted" in report.notes
    assert report.unexplained == 0
