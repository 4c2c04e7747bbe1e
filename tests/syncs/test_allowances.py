"""Allowances of a first entry alone: which entries of a declaration let a wait pass."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from bagel_perf.simulated import SimulatedDevice
from bagel_perf.syncs import SyncWatch, allow_sync, watch_host_syncs


@pytest.fixture
def scalar() -> Iterator[Tensor]:
    with SimulatedDevice() as device:
        yield device.wrap(torch.ones(()))


def allowed(watch: SyncWatch) -> Counter[str | None]:
    return Counter(site.allowed for site in watch.sites for _ in range(site.count))


def test_only_the_first_entry_of_a_declaration_allows_waits(scalar: Tensor) -> None:
    with watch_host_syncs(scalar.device) as watch:
        for _ in range(3):
            with allow_sync("warm-up", first_only=True):
                scalar.item()
                scalar.item()
    assert allowed(watch) == {"warm-up": 2, None: 4}


def test_with_at_most_the_first_entry_allows_so_many(scalar: Tensor) -> None:
    with watch_host_syncs(scalar.device) as watch:
        for _ in range(2):
            with allow_sync("warm-up", at_most=1, first_only=True):
                scalar.item()
                scalar.item()
    assert allowed(watch) == {"warm-up": 1, None: 3}


def test_another_line_or_another_reason_is_another_declaration(scalar: Tensor) -> None:
    with watch_host_syncs(scalar.device) as watch:
        for name in ("a", "b", "a"):
            with allow_sync(name, first_only=True):
                scalar.item()
        with allow_sync("a", first_only=True):
            scalar.item()
    assert allowed(watch) == {"a": 2, "b": 1, None: 1}


def test_an_entry_counts_although_nobody_watches(scalar: Tensor) -> None:
    def warm_up() -> None:
        with allow_sync("warm-up", first_only=True):
            scalar.item()

    warm_up()
    with watch_host_syncs(scalar.device) as watch:
        warm_up()
    assert allowed(watch) == {None: 1}


def test_a_later_entry_allows_nothing_inside_an_outer_declaration_either(scalar: Tensor) -> None:
    with watch_host_syncs(scalar.device) as watch, allow_sync("outer"):
        for _ in range(2):
            with allow_sync("inner", first_only=True):
                scalar.item()
        scalar.item()
    assert allowed(watch) == {"inner": 1, None: 1, "outer": 1}


def test_as_a_decorator_it_allows_the_first_call(scalar: Tensor) -> None:
    @allow_sync("warm-up", at_most=1, first_only=True)
    def read() -> None:
        scalar.item()

    @allow_sync("each time", at_most=1)
    def read_on() -> None:
        scalar.item()

    with watch_host_syncs(scalar.device) as watch:
        for _ in range(2):
            read()
            read_on()
    assert allowed(watch) == {"warm-up": 1, None: 1, "each time": 2}


def test_of_threads_that_enter_at_once_one_is_the_first(scalar: Tensor) -> None:
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        with allow_sync("warm-up", first_only=True):
            scalar.item()

    threads = [threading.Thread(target=work) for _ in range(4)]
    with watch_host_syncs(scalar.device) as watch:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert allowed(watch) == {"warm-up": 1, None: 3}
