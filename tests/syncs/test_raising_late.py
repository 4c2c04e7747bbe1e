"""Waits that raise where no error gets out of a wait, as on CUDA: torch swallows it, so it is raised right after."""

from __future__ import annotations

import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import pytest
import torch

from bagel_perf.syncs import SyncBudgetExceeded, allow_sync, sites, watch_host_syncs
from fake_waits import Swallowing, in_raw_thread, loss_with

Traced = Callable[[FrameType, str, Any], None] | None
on_wait = partial(watch_host_syncs, "cuda", debug_mode=False, on_wait="raise")


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Swallowing:
    """What the watch listens to in the place of CUDA."""
    source = Swallowing()
    monkeypatch.setattr(sites, "require_callbacks", lambda: None)
    monkeypatch.setattr(sites, "listening_to_cuda", source.listening)
    return source


@pytest.fixture
def wait(source: Swallowing) -> Callable[[], bool]:
    return source.wait  # type: ignore[return-value]


@pytest.fixture(params=["a debugger", "none"])
def traced(request: pytest.FixtureRequest) -> Iterator[Traced]:
    """The trace function that a program has before it is watched."""

    def debugger(frame: FrameType, event: str, argument: Any) -> None:
        """Looks at nothing."""

    before = sys.gettrace()
    own = debugger if request.param == "a debugger" else None
    sys.settrace(own)
    try:
        yield own
    finally:
        sys.settrace(before)


def end(error: BaseException) -> tuple[str, int]:
    """Function and line at which a traceback ends, counted from that of its ``def``."""
    last = list(traceback.walk_tb(error.__traceback__))[-1]
    return last[0].f_code.co_name, last[1] - last[0].f_code.co_firstlineno


def test_what_a_callback_raises_itself_does_not_arrive(source: Swallowing, wait: Callable[[], bool]) -> None:
    with source.listening(lambda kind: 1 // 0):  # type: ignore[arg-type]
        assert wait() is True


def test_it_is_raised_at_the_line_that_has_waited_and_says_so(wait: Callable[[], bool]) -> None:
    went_on = []

    def program() -> None:
        answer = wait()
        went_on.append(answer)

    with pytest.raises(SyncBudgetExceeded) as caught, on_wait() as watch:
        program()
    assert (end(caught.value), went_on, watch.host_syncs) == (("program", 1), [], 1)
    assert caught.value.site is not None
    number = program.__code__.co_firstlineno + 1
    assert f"test_raising_late.py:{number} waited for the device, raised after it, as torch lets" in str(caught.value)


def test_where_the_frame_is_at_the_next_line_already_the_traceback_ends_at_the_one_that_waited(
    wait: Callable[[], bool],
) -> None:
    class Answer:
        __bool__ = wait

    def program() -> int:
        if Answer():
            return 1
        return 0

    with pytest.raises(SyncBudgetExceeded) as caught, on_wait():
        program()
    assert end(caught.value) == ("program", 1)


def test_in_a_function_of_a_library_the_innermost_line_outside_torch_meets_it(wait: Callable[[], bool]) -> None:
    def program() -> list[int]:
        return sorted([1, 2], key=lambda _: wait())

    with pytest.raises(SyncBudgetExceeded) as caught, on_wait():
        program()
    assert end(caught.value)[0] == "<lambda>"


def in_torch(text: str) -> Any:
    """A function as if it lay in torch: no line of it is the program's."""
    return eval(compile(text, f"{torch.__path__[0]}/made_up.py", "eval"))


def test_a_call_that_waits_often_raises_once_at_its_end(wait: Callable[[], bool]) -> None:
    call = in_torch("lambda wait: [wait(), wait(), wait()]")
    with pytest.raises(SyncBudgetExceeded) as caught, on_wait() as watch:
        call(wait)
    assert watch.host_syncs == 3 and caught.value.budget is not None and caught.value.budget.worst == 1


def test_an_error_of_the_call_that_waits_is_not_replaced(wait: Callable[[], bool], traced: Traced) -> None:
    failing = in_torch("lambda wait: [wait(), {}['mine']]")
    with pytest.raises(KeyError, match="mine"), on_wait():
        failing(wait)
    assert sys.gettrace() is traced


def test_a_program_that_catches_it_meets_it_again_but_not_while_it_cleans_up(wait: Callable[[], bool]) -> None:
    caught = []

    def program() -> None:
        for _ in range(2):
            try:
                try:
                    wait()
                finally:
                    wait()
            except SyncBudgetExceeded as error:
                wait()
                caught.append(error)

    with pytest.raises(SyncBudgetExceeded, match="the program waited for the device 6 times"), on_wait():
        program()
    assert len(caught) == 2


def test_the_trace_function_of_a_debugger_is_there_again(wait: Callable[[], bool], traced: Traced) -> None:
    with pytest.raises(SyncBudgetExceeded), on_wait():
        wait()
    assert sys.gettrace() is traced


def test_it_is_there_again_at_the_next_wait_of_a_program_that_goes_on(wait: Callable[[], bool], traced: Traced) -> None:
    found = []

    def program() -> None:
        with suppress(SyncBudgetExceeded):
            wait()
        found.append(sys.gettrace())
        with allow_sync("meant"):
            wait()
        found.append(sys.gettrace())

    with pytest.raises(SyncBudgetExceeded, match="the program"), on_wait():
        program()
    assert found == [None, traced]


def test_the_caller_of_a_backward_pass_meets_a_wait_on_autograds_thread_at_its_end(source: Swallowing) -> None:
    ran = []

    def work() -> None:
        for _ in range(2):
            source.wait_in_torch()
        ran.append("all of it")

    def program() -> None:
        loss = loss_with(work)
        loss.backward()

    with pytest.raises(SyncBudgetExceeded, match="raised after the backward pass") as caught, on_wait() as watch:
        program()
    assert (end(caught.value), ran, watch.host_syncs) == (("program", 2), ["all of it"], 2)
    assert caught.value.budget is not None and caught.value.budget.worst == 1


def test_a_hook_on_autograds_thread_meets_its_own_wait(source: Swallowing, wait: Callable[[], bool]) -> None:
    def hook() -> None:
        wait()

    with pytest.raises(SyncBudgetExceeded) as caught, on_wait():
        loss_with(lambda: in_raw_thread(hook)).backward()
    assert end(caught.value) == ("hook", 1)


def test_an_error_of_a_backward_pass_is_not_replaced(source: Swallowing) -> None:
    def work() -> None:
        source.wait_in_torch()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), on_wait():
        loss_with(work).backward()


def test_a_thread_without_python_outside_a_backward_pass_is_told_at_the_end(source: Swallowing) -> None:
    with pytest.raises(SyncBudgetExceeded, match="the program waited for the device 1 times"), on_wait():
        source.wait_in_torch()


def test_nothing_of_the_device_is_released_while_the_error_is_on_its_way(wait: Callable[[], bool]) -> None:
    log: list[str] = []

    def temporary(name: str) -> torch.Tensor:
        made = torch.ones(2)
        weakref.finalize(made, log.append, f"{name} released")
        return made

    def program() -> object:
        return temporary("outer"), inner()

    def inner() -> object:
        return temporary("inner"), wait()

    with suppress(SyncBudgetExceeded), on_wait():
        try:
            program()
        except SyncBudgetExceeded:
            log.append("caught")
            raise
    assert (log[0], set(log[1:])) == ("caught", {"inner released", "outer released"})
