"""Stages are timed between two synchronizations, on a scripted clock."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

from bagel_perf.measure.stages import (
    Outcome,
    Stage,
    Subject,
    memory_by_stage,
    run_stages,
    shuffled_rounds,
    time_stages,
    time_whole,
)
from scripted_clock import ScriptedClock


def scripted_subject(clock: ScriptedClock) -> Subject:
    """Two stages of 30 and 50 ms, the first of which outputs 1 and the second adds 10."""

    def first(_: Any) -> int:
        clock.advance(30)
        return 1

    def second(value: int) -> int:
        clock.advance(50)
        return value + 10

    return Subject(stages=(Stage(name="first", run=first), Stage(name="second", run=second)))


def test_each_stage_has_its_time_and_the_last_output_is_the_subjects() -> None:
    clock = ScriptedClock()
    outcome = time_stages(scripted_subject(clock), clock)
    assert outcome.output == 11
    assert outcome.latency_ms == {"first": 30, "second": 50}


def test_a_stage_is_synchronized_at_either_end_and_not_inside() -> None:
    clock = ScriptedClock()
    time_stages(scripted_subject(clock), clock)
    assert clock.log == [("sync", 0), ("sync", 30), ("sync", 30), ("sync", 80)]


def test_the_whole_is_synchronized_at_its_two_ends_only() -> None:
    clock = ScriptedClock()
    outcome = time_whole(scripted_subject(clock), clock)
    assert outcome.latency_ms == {"e2e": 80}
    assert clock.log == [("sync", 0), ("sync", 80)]


def test_running_stages_untimed_gives_the_same_output() -> None:
    assert run_stages(scripted_subject(ScriptedClock())) == 11


def test_a_cpu_has_no_peak_memory_to_report() -> None:
    assert memory_by_stage(scripted_subject(ScriptedClock()), torch.device("cpu")) == (11, {})


def test_every_arm_runs_once_a_round_in_an_order_drawn_from_the_seed() -> None:
    arms = ("a", "b", "c")
    order = list(shuffled_rounds(arms, 50, seed=3))
    assert order == list(shuffled_rounds(arms, 50, seed=3))
    assert order != list(shuffled_rounds(arms, 50, seed=4))
    for index in range(50):
        assert Counter(arm for number, arm in order if number == index) == Counter(arms)
    first = Counter(order[3 * index][1] for index in range(50))
    assert min(first[arm] for arm in arms) > 5, "no arm may own the first place"


def test_which_of_two_arms_comes_first_is_a_coin_of_each_round() -> None:
    order = list(shuffled_rounds(("a", "b"), 400, seed=5))
    firsts = [order[2 * index][1] for index in range(400)]
    assert 170 < firsts.count("a") < 230
    assert 150 < sum(x == y for x, y in pairwise(firsts)) < 250, "a round says nothing about the next"


@pytest.mark.parametrize("timing", [time_stages, time_whole])
def test_nothing_is_collected_while_the_clock_runs(timing: Callable[[Subject, ScriptedClock], Outcome]) -> None:
    seen: list[bool] = []
    clock = ScriptedClock()
    timing(Subject(stages=(Stage(name="only", run=lambda _: seen.append(gc.isenabled())),)), clock)
    assert seen == [False]
    assert gc.isenabled()


def test_collection_comes_back_after_a_failure() -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("stage failed")

    with pytest.raises(RuntimeError, match="stage failed"):
        time_whole(Subject(stages=(Stage(name="only", run=fail),)), ScriptedClock())
    assert gc.isenabled()
