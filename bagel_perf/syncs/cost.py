"""What watching costs, by tiny programs with and without the instruments in turns; predicted savings less that."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from msgspec.structs import replace

from bagel_perf.records.sites import SyncSite
from bagel_perf.records.syncs import Instrument

NUM_ROUNDS = 5
NUM_CALLS = 200

SavingRange = tuple[float, float]


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


def without_instrument(
    predicted_saving_ms: SavingRange | None, num_waits: int, instrument: Instrument
) -> SavingRange | None:
    """A predicted saving in a profiled run, in ms, as one of the plain run.

    Alone the waits cost at least what they did less what the instruments added to each, and as a wait takes some
    microseconds even on an idle GPU, no less than that where they cost so much at all. With what computes for them they
    cost at most the same share of the plain run as of the profiled one; where there was no plain run, at most what they
    cost in the profiled one.
    """
    if predicted_saving_ms is None:
        return None
    added_ms, plain_ms = (num_waits * us / 1e3 for us in (max(instrument.wait_us, 0.0), instrument.plain_wait_us))
    alone_ms = min(predicted_saving_ms[0], max(predicted_saving_ms[0] - added_ms, plain_ms))
    at_most_ms = predicted_saving_ms[1]
    if instrument.plain_wall_ms is not None and instrument.watched_wall_ms is not None:
        at_most_ms *= min(instrument.plain_wall_ms / instrument.watched_wall_ms, 1.0)
    return min(alone_ms, at_most_ms), max(alone_ms, at_most_ms)


def with_predicted_savings(sites: Sequence[SyncSite], instrument: Instrument) -> tuple[SyncSite, ...]:
    """Sites of a profiled run with the predicted savings of a plain one."""
    return tuple(
        replace(site, predicted_saving_ms=without_instrument(site.predicted_saving_ms, site.count, instrument))
        for site in sites
    )
