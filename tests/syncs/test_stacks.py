"""Regions and allowances of generators that take turns, and entries that are let go elsewhere than they were made."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from bagel_perf.simulated import SimulatedDevice
from bagel_perf.syncs import allow_sync, watch_host_syncs
from bagel_perf.syncs.regions import Stack, current_region, recording, region


@pytest.fixture
def scalar() -> Iterator[Tensor]:
    with SimulatedDevice() as device:
        yield torch.ones((), device=device.device)


def steps(name: str) -> Iterator[None]:
    with region(name):
        yield


def in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_regions_of_generators_end_in_any_order() -> None:
    with recording(), region("outer"):
        a, b, c = steps("a"), steps("b"), steps("c")
        for generator in (a, b, c):
            next(generator)
        assert current_region() == ("outer", "a", "b", "c")
        assert next(b, None) is None and current_region() == ("outer", "a", "c")
        with region("inner"):
            a.close()  # type: ignore[attr-defined]
            assert current_region() == ("outer", "c", "inner")
        assert next(c, None) is None and current_region() == ("outer",)
    assert current_region() == ()


def test_allowances_of_generators_that_take_turns_cover_their_own_number_of_waits(scalar: Tensor) -> None:
    def reads(reason: str, at_most: int) -> Iterator[None]:
        with allow_sync(reason, at_most=at_most):
            while True:
                yield

    with watch_host_syncs(scalar.device) as watch:
        first, second = reads("first", 1), reads("second", 2)
        next(first), next(second)
        scalar.item()  # of the second, which is the innermost
        first.close()  # type: ignore[attr-defined]
        scalar.item()
        scalar.item()  # the second covers no more, and the first is gone
        second.close()  # type: ignore[attr-defined]
        scalar.item()
    found = {(site.line, site.allowed) for site in watch.sites}
    assert [allowed for _, allowed in sorted(found)] == ["second", "second", None, None]


def test_a_budget_counts_for_generators_that_take_turns(scalar: Tensor) -> None:
    def work(name: str, waits: int) -> Iterator[None]:
        with region(name):
            for _ in range(waits):
                yield

    with watch_host_syncs(scalar.device, budgets={"a": 9, "b": 9}) as watch:
        a, b = work("a", 1), work("b", 2)
        next(a), next(b)
        scalar.item()  # in both
        next(a, None)
        scalar.item()  # in b alone
        next(b), next(b, None)
        scalar.item()
    assert {check.region: check.worst for check in watch.budgets} == {"a": 1, "b": 2}
    assert [site.region for site in sorted(watch.sites, key=lambda site: site.line)] == ["a/b", "b", ""]


def test_a_generator_that_ends_in_another_thread_is_open_in_neither() -> None:
    with recording():
        here, there = steps("here"), steps("there")
        seen: list[tuple[str, ...]] = []

        def work() -> None:
            next(there)
            seen.append(current_region())
            next(here, None)

        next(here)
        in_a_thread(work)
        assert seen == [("there",)]
        assert current_region() == ()
        next(there, None)
        assert current_region() == ()


def test_an_entry_that_is_let_go_in_another_thread_is_gone_wherever_it_is_seen() -> None:
    stack: Stack[str] = Stack("of_a_test")
    outer, inner = stack.push("outer"), stack.push("inner")
    copy = contextvars.copy_context()
    in_a_thread(lambda: stack.let_go(outer))
    assert stack.values() == copy.run(stack.values) == ("inner",)
    copy.run(stack.push, "of the copy")
    stack.let_go(inner)
    assert stack.values() == ()
    assert copy.run(stack.values) == ("of the copy",)


def test_an_entry_may_be_let_go_twice() -> None:
    stack: Stack[str] = Stack("of_another_test")
    held = stack.push("a")
    stack.push("a")
    stack.let_go(held)
    stack.let_go(held)
    assert stack.values() == ("a",)


def test_a_region_that_outlives_its_recording_is_in_no_later_one() -> None:
    generator = steps("early")
    with recording():
        next(generator)
    with recording(), region("late"):
        assert current_region() == ("late",)
        next(generator, None)
        assert current_region() == ("late",)
