"""Side streams and events in a region: which a CUDA graph of it takes in, and which prevent it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from bagel_perf.simulated import SimulatedCuda
from watched_captures import Body, kinds, only, side_work, watched


@pytest.fixture(autouse=True)
def simulated() -> Iterator[SimulatedCuda]:
    with SimulatedCuda() as device:
        yield device


@pytest.fixture
def x() -> Tensor:
    return torch.ones(4, 3, device="cuda")


def waits_for(done: torch.cuda.Event, x: Tensor) -> Body:
    def body(_: int) -> None:
        done.wait()
        x.mul_(1.5)

    return body


def test_a_side_stream_that_forks_and_joins_is_captured(x: Tensor) -> None:
    assert watched(side_work(x, forks=True, joins=True)).is_capturable is True


def test_a_side_stream_that_does_not_join_stops_a_graph(x: Tensor) -> None:
    blocker = only(watched(side_work(x, forks=True, joins=False)))
    assert (blocker.kind, blocker.effect, blocker.count) == ("stream", "stops", 4)
    assert blocker.expressions == ("x.mul_(1.5)",) and "before the region ends" in blocker.remedy


def test_a_side_stream_that_does_not_fork_is_not_in_the_graph(x: Tensor) -> None:
    blocker = only(watched(side_work(x, forks=False, joins=False)))
    assert (blocker.kind, blocker.effect) == ("stream", "freezes") and "not in the graph" in blocker.detail


def test_the_region_may_not_wait_for_work_that_is_not_in_the_graph(x: Tensor) -> None:
    waits, work = watched(side_work(x, forks=False, joins=True)).blockers
    assert (waits.kind, waits.effect) == ("stream", "stops") and (work.kind, work.effect) == ("stream", "freezes")
    assert waits.expressions == ("torch.cuda.current_stream().wait_stream(side)",)
    done = torch.cuda.Event()
    assert watched(waits_for(done, x)).blockers == ()  # never recorded
    done.record()
    assert kinds(watched(waits_for(done, x))) == ["stream"]


def test_streams_may_fork_and_join_by_events_and_by_way_of_others(x: Tensor) -> None:
    first, second = torch.cuda.Stream(), torch.cuda.Stream()

    def body(_: int) -> None:
        begun, half, done = (torch.cuda.Event() for _ in range(3))
        begun.record()
        first.wait_event(begun)
        with torch.cuda.stream(first):
            x.mul_(1.5)
            half.record()
        second.wait_event(half)
        with torch.cuda.stream(second):
            x.add_(1.0)
            done.record()
        done.wait()

    assert watched(body).is_capturable is True


def test_a_query_stops_a_graph(x: Tensor) -> None:
    done = torch.cuda.Event()
    assert kinds(watched(lambda _: done.query())) == ["query"]
    assert kinds(watched(lambda _: torch.cuda.current_stream().query())) == ["query"]
