"""A staged copy is a wait where it outlasts the work queued before it, and only there."""

from __future__ import annotations

import time

import pytest
import torch

from bagel_perf.syncs import calls
from bagel_perf.syncs.hearing import Wait
from bagel_perf.syncs.sites import SyncCollector


class Queue:
    """Stands for a GPU: an event is done once the work before it is."""

    is_busy = True

    class Event:
        def record(self) -> None:
            pass

        def query(self) -> bool:
            return not Queue.is_busy


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> type[Queue]:
    monkeypatch.setattr(torch.cuda, "Event", Queue.Event)
    Queue.is_busy = True
    return Queue


def drain() -> str:
    time.sleep(0.002)
    Queue.is_busy = False
    return "copied"


def test_a_copy_that_returns_when_the_queue_is_empty_has_waited(queue: type[Queue]) -> None:
    told: list[float] = []
    result = calls.run_timed(drain, lambda: told.append(calls.take_held_ms()))
    assert result == "copied"
    assert len(told) == 1 and told[0] >= 2.0
    assert calls.take_held_ms() == 0.0


def test_a_copy_that_returns_while_the_queue_is_busy_has_not(queue: type[Queue]) -> None:
    told: list[str] = []
    calls.run_timed(lambda: None, lambda: told.append("held"))
    assert told == []


def test_on_an_idle_device_nothing_is_waited_for(queue: type[Queue]) -> None:
    queue.is_busy = False
    told: list[str] = []
    calls.run_timed(drain, lambda: told.append("held"))
    assert told == []


def test_a_staged_copy_is_a_site_with_its_time_and_a_predicted_saving_up_to_it() -> None:
    collector = SyncCollector("cuda")
    for held_ms in (2.0, 3.0):
        collector.take(Wait("staged_copy", None, None, (), None, held_ms=held_ms))
    (site,) = collector.sites()
    assert (site.kind, site.count, site.blocked_ms, site.predicted_saving_ms) == ("staged_copy", 2, 5.0, (0.0, 5.0))
