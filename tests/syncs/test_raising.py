"""Waits that raise, on the simulated device: which one does, where its traceback ends, and what is counted after it."""

from __future__ import annotations

import runpy
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bagel_perf.records.errors import UsageError
from bagel_perf.records.syncs import BudgetCheck
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import SyncBudgetExceeded, SyncWatch, allow_sync, region, watch_host_syncs
from raised_waits import ReadsInBackward, end, raised


@pytest.fixture(autouse=True)
def device() -> Iterator[SimulatedCuda]:
    with SimulatedCuda() as simulated:
        yield simulated


@pytest.fixture
def scalar() -> Tensor:
    return torch.ones((), device="cuda")


def is_raised(call: Callable[[], object]) -> bool:
    try:
        call()
    except SyncBudgetExceeded:
        return True
    return False


def test_the_traceback_ends_at_the_line_that_waits_and_shows_nothing_of_ours(scalar: Tensor) -> None:
    def branch() -> int:
        if scalar > 0:
            return 1
        return 0

    error, watch = raised(branch)
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    assert end(error) == ("branch", 1) and not [file for file in files if "bagel_perf/simulated" in file]
    assert watch.host_syncs == 1, "it is counted all the same"


def test_the_error_tells_kind_line_region_budget_and_remedy(scalar: Tensor) -> None:
    def program() -> None:
        with region("denoise"), region("step"):
            scalar.item()
            scalar.tolist()

    error, _ = raised(program, budgets={"step": 1})
    line = program.__code__.co_firstlineno + 3
    assert error.site is not None and (error.site.kind, error.site.line) == ("d2h_copy", line)
    assert error.budget == BudgetCheck(region="step", limit=1, num_entries=1, worst=2, num_exceeded=1, used_device=True)
    place = f"test_raising.py:{line} waits for the device (d2h_copy, scalar.tolist(), region denoise/step)"
    assert f"{place}; budget 1 of region step, this is wait 2; instead: one copy" in str(error)
    assert str(error).endswith('or allow_sync("why it has to wait")')


def test_it_raises_before_the_operation_runs(scalar: Tensor) -> None:
    host = torch.zeros(())
    raised(lambda: host.copy_(scalar))
    assert host == 0


def test_the_first_wait_that_takes_an_entry_above_its_limit_raises(scalar: Tensor) -> None:
    def program() -> None:
        scalar.item()
        for times in (2, 2, 5):
            with region("step"):
                for _ in range(times):
                    scalar.item()

    assert raised(program, budgets={"step": 2})[1].host_syncs == 1 + 2 + 2 + 3


@pytest.mark.parametrize(
    ("budgets", "num_waits", "region_over"),
    [
        ({"": 1, "outer": 2, "inner": 1}, 2, "inner"),
        ({"": 1, "outer": 1, "inner": 2}, 2, "outer"),
        ({"": 1, "outer": 2, "inner": 2}, 2, ""),
        ({"other": 0, "inner": 2}, 3, "inner"),
    ],
)
def test_the_innermost_budget_that_is_exceeded_is_named(
    scalar: Tensor, budgets: dict[str, int], num_waits: int, region_over: str
) -> None:
    def program() -> None:
        with region("outer"), region("inner"):
            for _ in range(5):
                scalar.item()

    error, watch = raised(program, budgets=budgets)
    assert error.budget is not None
    assert (watch.host_syncs, error.budget.region, error.budget.worst) == (num_waits, region_over, num_waits)


def test_allowed_waits_raise_only_beyond_their_number(scalar: Tensor) -> None:
    def program() -> None:
        with allow_sync("two of them", at_most=2):
            for _ in range(3):
                scalar.item()

    _, watch = raised(program)
    assert {(site.allowed, site.count) for site in watch.sites} == {("two of them", 2), (None, 1)}


def test_a_program_that_catches_it_meets_it_again_and_at_the_end(scalar: Tensor) -> None:
    found: list[bool] = []
    error, watch = raised(lambda: found.extend(is_raised(scalar.item) for _ in range(3)))
    assert found == [True] * 3 and watch.host_syncs == 3
    assert error.site is None and "the program waited for the device 3 times; budget 0" in str(error)


def test_who_cleans_up_after_it_may_wait(scalar: Tensor) -> None:
    class Cleaning:
        def __enter__(self) -> None:
            pass

        def __exit__(self, *raised: object) -> None:
            scalar.item()

    def program() -> None:
        try:
            with Cleaning():
                scalar.item()
        except SyncBudgetExceeded:
            try:
                raise KeyError("another")
            except KeyError:
                scalar.item()
            raise
        finally:
            scalar.item()

    error, watch = raised(program)
    assert (end(error), watch.host_syncs, error.__context__) == (("program", 3), 4, None)


def test_an_error_of_the_program_that_is_handled_keeps_no_wait_from_raising(scalar: Tensor) -> None:
    def program() -> None:
        try:
            raise KeyError("mine")
        except KeyError:
            scalar.item()

    assert end(raised(program)[0]) == ("program", 4)


def test_the_caller_of_a_backward_pass_meets_the_wait_of_a_function_in_it() -> None:
    x = torch.ones(3, device="cuda", requires_grad=True)
    loss = ReadsInBackward.apply(x).sum()  # type: ignore[no-untyped-call]
    error, _ = raised(loss.backward)
    assert end(error) == ("backward", 2)


def test_the_caller_of_a_backward_pass_meets_the_wait_of_an_operator_in_it_and_may_go_on() -> None:
    x = torch.ones(3, device="cuda", requires_grad=True)

    def program() -> None:
        x.prod().backward()

    error, watch = raised(program)
    assert (end(error), watch.host_syncs) == (("program", 1), 1)
    with watch_host_syncs("cuda") as after:
        program()
    assert after.host_syncs == 1 and x.grad is not None


def test_it_is_raised_on_the_thread_that_waits(scalar: Tensor) -> None:
    found = []

    def program() -> None:
        thread = threading.Thread(target=lambda: found.append(is_raised(scalar.item)))
        thread.start()
        thread.join()

    error, _ = raised(program)
    assert found == [True] and error.site is None


def test_every_watch_counts_a_wait_that_another_one_raises(scalar: Tensor) -> None:
    after: list[SyncWatch] = []

    def program() -> None:
        with watch_host_syncs("cuda") as inner:
            after.append(inner)
            scalar.item()

    with watch_host_syncs("cuda") as before:
        _, raising = raised(program)
    assert [before.host_syncs, raising.host_syncs, after[0].host_syncs] == [1, 1, 1]


def test_a_watch_that_counts_raises_at_its_end_alone(scalar: Tensor) -> None:
    with pytest.raises(SyncBudgetExceeded) as caught, watch_host_syncs("cuda", budgets={"": 0}):
        assert not is_raised(scalar.item)
    assert caught.value.site is None


def test_other_words_are_refused() -> None:
    with pytest.raises(UsageError, match=r"on_wait \('stop'\); 'count' or 'raise'"):
        watch_host_syncs("cuda", on_wait="stop").__enter__()  # type: ignore[arg-type]


def test_the_script_ends_at_its_first_wait() -> None:
    script = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "first_wait.py"))
    with pytest.raises(SyncBudgetExceeded, match=r"first_wait\.py:15 waits .* region step") as caught:
        script["main"]()
    assert end(caught.value) == ("step", 3)
