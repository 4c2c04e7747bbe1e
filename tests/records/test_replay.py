"""A replay gives the measured time back with every wait in place, and the right one without."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from bagel_perf.traces.replay import BLOCKING_COPY, LAUNCH, OTHER, WAIT, Replay

LATENCY_US, WAKE_US = 4.0, 3.0


@dataclass
class Program:
    """Calls of a program in order, as a test writes them down."""

    rows: list[tuple[int, float, float, float, int, int, bool]] = field(default_factory=list)
    num_waits: int = 0

    def launch(self, gpu_us: float, *, work_us: float = 5.0, own_us: float = 2.0, stream: int = 0) -> None:
        self.rows.append((LAUNCH, work_us, own_us, gpu_us, stream, -1, False))

    def read(self, *, work_us: float = 1.0) -> int:
        """A scalar read: a copy of 1 us and a wait, both of one operator that is there for the host alone."""
        wait = self.num_waits
        self.num_waits += 1
        self.rows.append((LAUNCH, work_us, 2.0, 1.0, 0, wait, True))
        self.rows.append((WAIT, 0.0, 1.0, 0.0, -1, wait, True))
        return wait

    def wait(self, *, work_us: float = 1.0) -> int:
        wait = self.num_waits
        self.num_waits += 1
        self.rows.append((WAIT, work_us, 1.0, 0.0, -1, wait, False))
        return wait

    def replay(self, tail_us: float = 0.0) -> Replay:
        kind, work_us, own_us, gpu_us, stream, wait, vanishes = map(np.array, zip(*self.rows, strict=True))
        zeros = np.zeros(len(self.rows))
        return Replay(
            kind=kind,
            work_us=work_us,
            own_us=own_us,
            latency_us=np.full(len(self.rows), LATENCY_US),
            gpu_us=gpu_us,
            wake_us=np.full(len(self.rows), WAKE_US),
            stream=stream,
            wait=wait,
            vanishes=vanishes,
            before_us=zeros,
            after_us=zeros,
            num_streams=2,
            tail_us=tail_us,
        )


def test_a_host_bound_program_takes_the_hosts_time_plus_the_last_kernel() -> None:
    program = Program()
    for _ in range(10):
        program.launch(gpu_us=1.0)
    assert program.replay().duration_us() == 9 * 7.0 + 5.0 + LATENCY_US + 1.0
    assert program.replay(tail_us=50.0).duration_us() == 10 * 7.0 + 50.0


def test_a_gpu_bound_program_takes_the_gpus_time() -> None:
    program = Program()
    for _ in range(10):
        program.launch(gpu_us=100.0)
    assert program.replay().duration_us() == 5.0 + LATENCY_US + 10 * 100.0


def test_streams_run_side_by_side() -> None:
    program = Program()
    program.launch(gpu_us=100.0, stream=0)
    program.launch(gpu_us=100.0, stream=1)
    assert program.replay().duration_us() == 7.0 + 5.0 + LATENCY_US + 100.0


def test_a_read_in_a_gpu_bound_loop_costs_the_gap_that_it_opens() -> None:
    program = Program()
    reads = []
    for _ in range(10):
        program.launch(gpu_us=100.0)
        reads.append(program.read())
    replay = program.replay()
    without = replay.duration_us(reads)
    assert without == 5.0 + LATENCY_US + 10 * 100.0
    # The copy, the wake-up, and the host's work before the next launch with its latency; nothing follows the last.
    assert replay.duration_us() - without == 10 * 1.0 + WAKE_US * 10 + 9 * (5.0 + LATENCY_US)


def test_a_wait_whose_gpu_stays_busy_costs_nothing() -> None:
    program = Program()
    program.launch(gpu_us=1000.0, stream=1)
    program.launch(gpu_us=1.0)
    wait = program.wait()
    program.rows[-1] = (WAIT, 1.0, 1.0, 0.0, 0, wait, False)
    program.launch(gpu_us=1.0)
    replay = program.replay()
    assert replay.duration_us() == replay.duration_us([wait])


def test_a_read_in_a_host_bound_loop_costs_what_its_operator_holds_the_host() -> None:
    program = Program()
    reads = []
    for _ in range(10):
        program.launch(gpu_us=1.0)
        reads.append(program.read())
    program.launch(gpu_us=1.0)
    replay = program.replay()
    saved_us = replay.duration_us() - replay.duration_us(reads)
    # A read's copy is called 1 us after the launch's end, starts 4 us later, takes 1 us, and the host wakes 3 us later.
    assert saved_us == 10 * (1.0 + LATENCY_US + 1.0 + WAKE_US)


def test_with_its_loop_a_decision_takes_what_computes_it_along() -> None:
    program = Program()
    program.launch(gpu_us=1.0)
    reads = []
    for _ in range(10):
        program.launch(gpu_us=1.0)  # the comparison
        reads.append(program.read())
    program.launch(gpu_us=1.0)
    replay = program.replay()
    alone, with_loops = replay.duration_us(reads), replay.duration_us(reads, with_loops=True)
    assert alone - with_loops == 9 * 7.0


def test_a_loop_with_work_of_its_own_stays() -> None:
    program = Program()
    reads = []
    for _ in range(10):
        program.launch(gpu_us=50.0)
        reads.append(program.read())
    replay = program.replay()
    assert replay.duration_us(reads, with_loops=True) == replay.duration_us(reads)


def test_waits_of_others_are_left_alone() -> None:
    program = Program()
    program.launch(gpu_us=100.0)
    first = program.read()
    program.launch(gpu_us=100.0)
    second = program.read()
    program.launch(gpu_us=100.0)
    replay = program.replay()
    both = replay.duration_us() - replay.duration_us([first, second])
    each = [replay.duration_us() - replay.duration_us([wait]) for wait in (first, second)]
    assert each[0] == each[1] and both == pytest.approx(sum(each))


def test_a_blocking_copy_becomes_a_launch_without_its_wait() -> None:
    program = Program()
    program.launch(gpu_us=100.0)
    program.rows.append((BLOCKING_COPY, 1.0, 2.0, 10.0, 0, 0, False))
    program.num_waits = 1
    for _ in range(5):
        program.launch(gpu_us=1.0, work_us=20.0)
    replay = program.replay()
    blocked = 5.0 + LATENCY_US + 100.0 + 10.0 + WAKE_US
    assert replay.duration_us() == blocked + 5 * 22.0 - 2.0 + LATENCY_US + 1.0
    assert replay.duration_us([0]) == 5.0 + LATENCY_US + 100.0 + 10.0 + 5 * 1.0


def test_an_explicit_wait_goes_without_the_work_around_it() -> None:
    program = Program()
    program.launch(gpu_us=1.0)
    wait = program.wait()
    program.rows.append((OTHER, 10.0, 5.0, 0.0, -1, -1, False))
    replay = program.replay()
    assert replay.duration_us() == 5.0 + LATENCY_US + 1.0 + WAKE_US + 15.0
    assert replay.duration_us([wait]) == 7.0 + 1.0 + 15.0
