"""What watching costs: the same tiny programs with and without the instruments, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from bagel_perf.schema.syncs import Instrument

NUM_ROUNDS = 5
NUM_CALLS = 200


def measure_instrument(device: torch.device, watching: Callable[[], AbstractContextManager[object]]) -> Instrument:
    """Microseconds that ``watching`` adds to a wait and to another torch call, medians of rounds in turns.

    Takes some 0.1 s besides opening the context ``NUM_ROUNDS`` times.
    """
    scalar, vector = torch.ones((), device=device), torch.ones(4, device=device)
    programs: tuple[Callable[[], object], ...] = (scalar.item, lambda: vector + vector)
    plain: list[list[float]] = [[], []]
    watched: list[list[float]] = [[], []]
    for program in programs:
        program()
    for _ in range(NUM_ROUNDS):
        for program, times in zip(programs, plain, strict=True):
            times.append(_call_us(program, device))
        with watching():
            for program, times in zip(programs, watched, strict=True):
                times.append(_call_us(program, device))
    plain_us, watched_us = (list(map(statistics.median, each)) for each in (plain, watched))
    return Instrument(
        wait_us=watched_us[0] - plain_us[0], call_us=watched_us[1] - plain_us[1], plain_wait_us=plain_us[0]
    )


def _call_us(program: Callable[[], object], device: torch.device) -> float:
    torch.cuda.synchronize(device)
    start_ns = time.perf_counter_ns()
    for _ in range(NUM_CALLS):
        program()
    torch.cuda.synchronize(device)
    return (time.perf_counter_ns() - start_ns) / NUM_CALLS / 1e3
