"""The warnings of the sync debug mode are counted whatever the program does with its own; the mode is a variable here.

Each test records what would be shown, in the place of stderr.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from bagel_perf.syncs.cuda import counting_sync_warnings

NUMBERS = {"default": 0, "warn": 1, "error": 2}


class Mode:
    """Stands for CUDA's: a number, and warnings while it says so."""

    def __init__(self) -> None:
        self.number = 0

    def get(self) -> int:
        return self.number

    def set(self, mode: str | int) -> None:
        self.number = NUMBERS[mode] if isinstance(mode, str) else mode
        if self.number:
            warnings.warn("Synchronization debug mode is a prototype feature and does not yet detect all", stacklevel=2)

    def wait(self) -> None:
        """As torch's C++ warns: each time, at the line of the program."""
        if self.number == 1:
            warnings.warn(
                "called a synchronizing CUDA operation (Triggered internally at CUDAFunctions.cpp:303.)", stacklevel=2
            )


@pytest.fixture
def mode(monkeypatch: pytest.MonkeyPatch) -> Mode:
    mode = Mode()
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", mode.get)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", mode.set)
    return mode


@pytest.fixture
def shown() -> Iterator[list[str]]:
    """The texts that are shown, as Python's ``showwarning`` would write them."""
    texts: list[str] = []

    def show(message: Any) -> None:
        texts.append(str(message.message))

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.resetwarnings()
        patch.setattr(warnings, "showwarning", warnings._showwarning_orig)  # type: ignore[attr-defined]
        patch.setattr(warnings, "_showwarnmsg_impl", show)
        yield texts


def ignore_all() -> None:
    warnings.simplefilter("ignore")


def ignore_by_message() -> None:
    warnings.filterwarnings("ignore", message=".*synchronizing.*")


def make_errors() -> None:
    warnings.simplefilter("error")


def enter_a_context() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")


def reset_all() -> None:
    warnings.resetwarnings()


def do_nothing() -> None:
    pass


@pytest.mark.parametrize(
    "program", [do_nothing, ignore_all, ignore_by_message, make_errors, enter_a_context, reset_all]
)
def test_each_wait_is_counted_and_none_shown_whatever_filters_the_program_sets(
    mode: Mode, shown: list[str], program: Callable[[], None]
) -> None:
    with counting_sync_warnings() as count:
        for _ in range(2):
            mode.wait()
        program()
        for _ in range(3):
            mode.wait()
    assert (count.total, count.doubt, shown) == (5, "", [])


def test_a_program_that_records_gets_its_own_warnings_and_not_ours(mode: Mode, shown: list[str]) -> None:
    with counting_sync_warnings() as count:
        with warnings.catch_warnings(record=True) as recorded:
            warnings.simplefilter("always")
            mode.wait()
            warnings.warn("mine", stacklevel=1)
            mode.wait()
        warnings.warn("shown", stacklevel=1)
        mode.wait()
    assert [str(each.message) for each in recorded] == ["mine"]
    assert (count.total, count.doubt, shown) == (3, "", ["shown"])


def test_contexts_of_the_program_that_record_may_be_nested(mode: Mode, shown: list[str]) -> None:
    with counting_sync_warnings() as count, warnings.catch_warnings(record=True) as outer:
        warnings.simplefilter("always")
        with warnings.catch_warnings(record=True) as inner:
            warnings.warn("inner", stacklevel=1)
            mode.wait()
        warnings.warn("outer", stacklevel=1)
        mode.wait()
    texts = [[str(each.message) for each in recorded] for recorded in (outer, inner)]
    assert (texts, count.total, count.doubt, shown) == ([["outer"], ["inner"]], 2, "", [])


def test_other_warnings_are_shown_as_ever(mode: Mode, shown: list[str]) -> None:
    with counting_sync_warnings() as count:
        for _ in range(2):  # once a line, by Python's own default
            warnings.warn("mine", stacklevel=1)
        warnings.filterwarnings("ignore", message="quiet")
        warnings.warn("quiet", stacklevel=1)
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="loud"):
            warnings.warn("loud", stacklevel=1)
    assert (shown, count.total) == (["mine"], 0)


def test_other_warnings_go_to_the_function_that_was_there_before_or_where_they_are_recorded(
    mode: Mode, shown: list[str]
) -> None:
    heard: list[str] = []
    warnings.showwarning = lambda message, *details, **named: heard.append(str(message))
    with counting_sync_warnings() as count:
        warnings.warn("mine", stacklevel=1)
        mode.wait()
        with warnings.catch_warnings(record=True) as recorded:
            warnings.warn("recorded", stacklevel=1)
    assert (heard, shown, count.total, count.doubt) == (["mine"], [], 1, "")
    assert [str(each.message) for each in recorded] == ["recorded"]


def test_warnings_of_all_threads_are_counted(mode: Mode, shown: list[str]) -> None:
    def work() -> None:
        for _ in range(100):
            mode.wait()

    threads = [threading.Thread(target=work) for _ in range(4)]
    with counting_sync_warnings() as count:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (count.total, shown) == (400, [])


def test_a_mode_that_was_set_before_is_left_alone_and_nothing_is_counted(mode: Mode, shown: list[str]) -> None:
    mode.set("warn")
    shown.clear()
    with counting_sync_warnings() as count:
        mode.wait()
    assert (count.total, mode.number) == (0, 1)
    assert count.doubt == "the sync debug mode was set before, and left alone"
    assert len(shown) == 1 and "called a synchronizing CUDA operation" in shown[0]


def test_the_second_of_two_counts_is_in_doubt_and_the_first_goes_on(mode: Mode, shown: list[str]) -> None:
    with counting_sync_warnings() as first:
        with counting_sync_warnings() as second:
            mode.wait()
        mode.wait()
    assert (first.total, first.doubt, second.total, mode.number) == (2, "", 0, 0)
    assert "set before" in second.doubt


@pytest.mark.parametrize("chosen", ["default", "error"])
def test_a_program_that_sets_the_mode_itself_leaves_a_doubt(mode: Mode, shown: list[str], chosen: str) -> None:
    with counting_sync_warnings() as count:
        mode.wait()
        mode.set(chosen)
    assert count.doubt == "the program set the sync debug mode itself"
    assert mode.number == 0


def show_nothing(*_: object, **named: object) -> None:
    pass


def replace_it() -> None:
    warnings.showwarning = show_nothing


def replace_it_and_filter() -> None:
    replace_it()
    warnings.simplefilter("ignore")


def replace_it_for_a_while() -> None:
    ours, warnings.showwarning = warnings.showwarning, show_nothing
    warnings.simplefilter("ignore")
    warnings.showwarning = ours


@pytest.mark.parametrize("program", [replace_it, replace_it_and_filter, replace_it_for_a_while])
def test_a_program_that_replaces_showwarning_leaves_a_doubt_and_keeps_its_function(
    mode: Mode, shown: list[str], program: Callable[[], None]
) -> None:
    with counting_sync_warnings() as count:
        program()
        if program is not replace_it_for_a_while:
            assert warnings.showwarning is show_nothing
    assert count.doubt == "the program replaced warnings.showwarning, so warnings could not be counted"


PLACES: tuple[tuple[Any, str], ...] = (
    (warnings, "showwarning"),
    (warnings, "filterwarnings"),
    (warnings, "simplefilter"),
    (warnings, "resetwarnings"),
    (warnings.catch_warnings, "__enter__"),
)


@pytest.mark.parametrize("program", [do_nothing, ignore_all, reset_all, replace_it, enter_a_context])
def test_filters_and_functions_are_as_before_afterwards(
    mode: Mode, shown: list[str], program: Callable[[], None]
) -> None:
    warnings.filterwarnings("once", message="of the program")
    filters, functions = list(warnings.filters), [getattr(*place) for place in PLACES]

    def failing() -> None:
        with counting_sync_warnings():
            program()
            assert not set(functions[1:]) & {getattr(*place) for place in PLACES}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert list(warnings.filters) == filters and mode.number == 0
    assert [getattr(*place) for place in PLACES] == functions


@pytest.mark.parametrize("is_in_a_context", [False, True])
def test_filters_set_by_a_function_that_was_imported_before_leave_a_doubt(
    mode: Mode, shown: list[str], is_in_a_context: bool
) -> None:
    simplefilter = warnings.simplefilter
    with counting_sync_warnings() as count:
        mode.wait()
        if is_in_a_context:
            with warnings.catch_warnings():
                simplefilter("ignore")
                mode.wait()
        else:
            simplefilter("ignore")
            mode.wait()
    assert "filters" in count.doubt
