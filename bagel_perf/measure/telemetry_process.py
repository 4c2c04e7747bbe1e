"""The process that reads the GPU while another is measured: no torch, low priority, one line per request.

``begin`` is answered by {"began": true} after a first reading, ``end`` by the conditions since; before either it says
{"ready": true}, or {"unusable": why} and ends. It ends too when its input closes, so it outlives nobody.
"""

from __future__ import annotations

import json
import os
import select
import signal
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import pynvml

from bagel_perf.measure.machine import Gpu, Reading
from bagel_perf.records.codec import to_json
from bagel_perf.records.runs import Conditions

PERIOD_S = 0.05
PROCESSES_EVERY = 10
"""Readings per reading that lists processes; the first and the last of a window always do."""

NICENESS = 10

_T = TypeVar("_T")


def main(nvml: Any = pynvml) -> None:
    """Serves the process and the GPU that the arguments name: PID, UUID."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the measuring process, which ends this one
    os.nice(NICENESS)
    owner, uuid = int(sys.argv[1]), sys.argv[2]
    try:
        gpu = Gpu.of_uuid(nvml, uuid, owner)
    except nvml.NVMLError as problem:
        _reply({"unusable": str(problem)})
        return
    _reply({"ready": True})
    serve(gpu)


def serve(gpu: Gpu) -> None:
    """Answers requests until the input closes, and reads the GPU every ``PERIOD_S`` between begin and end."""
    readings: list[Reading] = []
    while True:
        if readings and not select.select([sys.stdin], [], [], PERIOD_S)[0]:
            readings.append(gpu.read(with_processes=len(readings) % PROCESSES_EVERY == 0))
            continue
        request = sys.stdin.readline().strip()
        if request == "begin":
            readings = [gpu.read()]
            _reply({"began": True})
        elif request == "end":
            readings.append(gpu.read())
            _reply(to_json(summarize(readings)))
            readings = []
        else:
            return


def _reply(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def summarize(readings: Sequence[Reading]) -> Conditions:
    """Conditions between the first and the last of at least two readings.

    The first was taken before the run, while the GPU stood idle, so only its energy counts. A counter that went back
    was reset in between and says nothing.
    """
    first, last, samples = readings[0], readings[-1], readings[1:]
    reasons = _known(sample.throttle_reasons for sample in samples)
    clocks = _known(sample.sm_clock_mhz for sample in samples)
    gained_j = None if first.energy_j is None or last.energy_j is None else last.energy_j - first.energy_j
    return Conditions(
        window_ms=(last.time_s - first.time_s) * 1e3,
        num_samples=len(samples),
        sm_clock_mhz=_of(statistics.median, clocks),
        sm_clock_min_mhz=_of(min, clocks),
        memory_clock_mhz=_of(statistics.median, _known(sample.memory_clock_mhz for sample in samples)),
        throttle_reasons=tuple(sorted(frozenset().union(*reasons))) if reasons else None,
        temperature_c=_of(max, _known(sample.temperature_c for sample in samples)),
        power_w=_of(statistics.fmean, _known(sample.power_w for sample in samples)),
        energy_j=None if gained_j is None or gained_j < 0 else gained_j,
        other_processes=count_others(readings),
    )


def count_others(readings: Iterable[Reading]) -> int | None:
    """How many processes of others held a context on the GPU at any reading; None where NVML does not show ours.

    In a container NVML may number processes as the host does. Then none of them seems to be ours, and one of them is:
    a process that is measured has a context.
    """
    readings = list(readings)
    own = frozenset[int]().union(*_known(reading.own_pids for reading in readings))
    others = frozenset[int]().union(*_known(reading.other_pids for reading in readings))
    if own:
        return len(others)
    return len(others) - 1 if others else None


def _known(values: Iterable[_T | None]) -> list[_T]:
    return [value for value in values if value is not None]


def _of(summary: Callable[[list[Any]], float], values: list[Any]) -> float | None:
    return float(summary(values)) if values else None


if __name__ == "__main__":
    main()
