"""Runs a subject stage by stage and takes its time.

A subject is a pipeline of stages, each a function of what the one before it returned. Nothing else of it is known here,
so the same code times BAGEL, another model, or the scripted subject of its own tests.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

from bagel_perf.records.collector import without_collector
from bagel_perf.syncs.regions import region

Arm = TypeVar("Arm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A named step of a subject; ``run`` takes the output of the stage before it (the first takes None)."""

    name: str
    run: Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Something to measure: stages in order; the output of the last is the subject's output."""

    stages: tuple[Stage, ...]


class Clock(Protocol):
    """A wall clock and the means to wait for the device."""

    def now_ms(self) -> float:
        """Milliseconds since some fixed moment."""
        ...

    def synchronize(self) -> None:
        """Returns when the device has finished all queued work."""
        ...


class Meter(Protocol):
    """Reads something around a timed run, outside of what is timed."""

    def begin(self) -> None: ...

    def end(self) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WallClock:
    """The real clock of one device; off CUDA there is nothing to wait for."""

    device: torch.device

    def now_ms(self) -> float:
        return time.perf_counter_ns() / 1e6

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Output of a subject, the latency of what was timed by name, in ms, and what a meter read around it."""

    output: Any
    latency_ms: dict[str, float]
    reading: Any = None


def run_stages(subject: Subject, each: Callable[[Stage], Callable[[Any], Any]] = lambda stage: stage.run) -> Any:
    """Runs all stages in their regions, through ``each``'s view of them; gives the last output."""
    value: Any = None
    for stage in subject.stages:
        with region(stage.name):
            value = each(stage)(value)
    return value


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collects once, and then not until the end: a collection would fall on whichever arm allocates next."""
    gc.collect()
    with without_collector():
        yield


@contextmanager
def _metered(meter: Meter | None, readings: list[Any]) -> Iterator[None]:
    """No garbage collection, and the meter's window no wider than it has to be."""
    with without_garbage_collection():
        if meter is not None:
            meter.begin()
        yield
        readings.append(None if meter is None else meter.end())


def time_stages(subject: Subject, clock: Clock, meter: Meter | None = None) -> Outcome:
    """Times each stage between two synchronizations, with none inside it and no garbage collection."""
    readings: list[Any] = []
    latency_ms: dict[str, float] = {}

    def timed(stage: Stage) -> Callable[[Any], Any]:
        def run(value: Any) -> Any:
            clock.synchronize()
            start = clock.now_ms()
            output = stage.run(value)
            clock.synchronize()
            latency_ms[stage.name] = clock.now_ms() - start
            return output

        return run

    with _metered(meter, readings):
        output = run_stages(subject, timed)
    return Outcome(output=output, latency_ms=latency_ms, reading=readings[0])


def time_whole(subject: Subject, clock: Clock, meter: Meter | None = None) -> Outcome:
    """Times all stages together, with a synchronization at either end only and no garbage collection."""
    readings: list[Any] = []
    with _metered(meter, readings):
        clock.synchronize()
        start = clock.now_ms()
        output = run_stages(subject)
        clock.synchronize()
        latency_ms = {"e2e": clock.now_ms() - start}
    return Outcome(output=output, latency_ms=latency_ms, reading=readings[0])


def memory_by_stage(subject: Subject, device: torch.device) -> tuple[Any, dict[str, tuple[int, int]]]:
    """Output of a subject, and by stage the most bytes that the allocator held, and its allocations; empty off CUDA."""
    if device.type != "cuda":
        return run_stages(subject), {}
    found: dict[str, tuple[int, int]] = {}

    def observed(stage: Stage) -> Callable[[Any], Any]:
        def run(value: Any) -> Any:
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_stats(device)["allocation.all.allocated"]
            output = stage.run(value)
            torch.cuda.synchronize(device)
            number = torch.cuda.memory_stats(device)["allocation.all.allocated"] - before
            found[stage.name] = torch.cuda.max_memory_allocated(device), number
            return output

        return run

    return run_stages(subject, observed), found


def shuffled_rounds(arms: Sequence[Arm], num_rounds: int, seed: int) -> Iterator[tuple[int, Arm]]:
    """(round, arm) for every arm once a round, in an order drawn from ``seed`` for each round by itself.

    So whichever of two arms is the first is a coin, and a difference of equals falls to either side with probability
    1/2 under any noise; orders that mirror or balance each other do not have that (``reports/gate-noise``).
    """
    generator = torch.Generator().manual_seed(seed)
    for index in range(num_rounds):
        for arm in torch.randperm(len(arms), generator=generator).tolist():
            yield index, arms[arm]
