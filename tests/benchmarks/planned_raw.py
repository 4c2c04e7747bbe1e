"""What a Kineto file itself says of planned idle time, by plain reading of its events and none of the analyser's code.

``made_up`` adds a device to a trace that was recorded without one, for a rehearsal: what it launched and did follows
from the operators and from the annotations ``call NAME [NUMBER]``, which stand for calls of the runtime.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Event = dict[str, Any]
Interval = tuple[float, float]

LAUNCHED = ("aten::tanh_", "aten::mul_", "aten::add_")
"""What a burst consists of; nothing else in the programs uses these."""
FAKE_CALL = "call "
KERNEL_US = 4.0
_LAUNCH = re.compile(r"cuda(LaunchKernel\w*|GraphLaunch)|cuLaunchKernel\w*")


def read_events(path: Path) -> list[Event]:
    """Reads the intervals of a packed Kineto file, by start."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    return sorted((each for each in events if each.get("ph") == "X"), key=lambda each: float(each["ts"]))


def gpu_intervals(events: Iterable[Event]) -> list[Interval]:
    """Finds when the device was at work."""
    found = (each for each in events if each.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset"))
    return sorted((float(each["ts"]), float(each["ts"]) + float(each["dur"])) for each in found)


def uncovered_ms(intervals: Iterable[Interval], start_us: float, end_us: float) -> float:
    """Measures how much of a stretch has nothing of some sorted intervals in it."""
    free_us, reached_us = 0.0, start_us
    for begin_us, stop_us in intervals:
        if stop_us > reached_us and begin_us < end_us:
            free_us += max(begin_us - reached_us, 0.0)
            reached_us = min(stop_us, end_us)
    return (free_us + max(end_us - reached_us, 0.0)) / 1e3


def idle_in_calls_ms(events: list[Event], pattern: str, in_steps: Callable[[int], bool] = lambda step: True) -> float:
    """Sums the time in calls of a name during which no device worked; ``in_steps`` chooses by the number of the step.

    The first recorded step has the number 0, and what precedes it as well.
    """
    busy = gpu_intervals(events)
    calls = [each for each in events if each.get("cat") == "cuda_runtime" and re.fullmatch(pattern, each["name"])]
    steps = sorted(float(each["ts"]) for each in _annotations(events) if each["name"].startswith("ProfilerStep"))
    chosen = [each for each in calls if in_steps(max(sum(step <= float(each["ts"]) for step in steps) - 1, 0))]
    return sum(uncovered_ms(busy, float(each["ts"]), float(each["ts"]) + float(each["dur"])) for each in chosen)


def idle_in_capture_ms(events: list[Event]) -> float:
    """Measures from the first call of a capture to the return of the one that makes a graph of it, without work."""
    calls = [each for each in events if each.get("cat") == "cuda_runtime"]
    begins = [float(each["ts"]) for each in calls if each["name"].startswith("cudaStreamBeginCapture")]
    made = [each for each in calls if each["name"].startswith(("cudaStreamEndCapture", "cudaGraphInstantiate"))]
    if len(begins) != 1 or not made:
        raise ValueError(f"{len(begins)} calls begin a capture and {len(made)} end one or make a graph; one is planned")
    return uncovered_ms(gpu_intervals(events), begins[0], max(float(each["ts"]) + float(each["dur"]) for each in made))


def num_launches_captured(events: list[Event]) -> int:
    """Counts launches, those inside another one left out, between the calls that begin and end a capture."""
    calls = [each for each in events if each.get("cat") in ("cuda_runtime", "cuda_driver")]
    begin_us = min(float(each["ts"]) for each in calls if each["name"].startswith("cudaStreamBeginCapture"))
    end_us = max(float(each["ts"]) for each in calls if each["name"].startswith("cudaStreamEndCapture"))
    count, reached_us = 0, begin_us
    for each in calls:
        if _LAUNCH.fullmatch(each["name"]) and reached_us <= float(each["ts"]) < end_us:
            count, reached_us = count + 1, float(each["ts"]) + float(each["dur"])
    return count


def made_up(events: list[Event]) -> list[Event]:
    """Adds to the events of a host what a device would have done; ``call`` annotations become calls."""
    device = _Device()
    found = []
    for each in events:
        if each.get("cat") == "user_annotation" and each["name"].startswith(FAKE_CALL):
            found += device.calls(each)
        elif each.get("cat") == "cpu_op" and each["name"] in LAUNCHED:
            found += [each, *device.launches(each)]
        else:
            found.append(each)
    return found


class _Device:
    """Does what is launched one after the other."""

    def __init__(self) -> None:
        self._ready_us = 0.0
        self._correlation = 0
        self._is_capturing = False

    def launches(self, op: Event) -> list[Event]:
        """Launches a small kernel in the middle of an operator."""
        call = {**op, "ts": op["ts"] + 0.2 * op["dur"], "dur": 0.6 * op["dur"]}
        return [self._called("cudaLaunchKernel", call), *([] if self._is_capturing else [self._work(call, KERNEL_US)])]

    def calls(self, annotation: Event) -> list[Event]:
        """Makes a call of an annotation, and does its work."""
        name, _, number = annotation["name"].removeprefix(FAKE_CALL).partition(" ")
        call = self._called(name, annotation)
        if name == "cudaStreamWaitEvent":
            self._ready_us = max(self._ready_us, annotation["ts"]) + float(number)
        elif name in ("cudaStreamBeginCapture", "cudaStreamEndCapture"):
            self._is_capturing = name == "cudaStreamBeginCapture"
        elif name == "cudaMemcpyAsync":
            return [call, {**self._work(call, 2.0), "cat": "gpu_memcpy", "name": "Memcpy DtoH (Device -> Pinned)"}]
        elif name == "cudaLaunchKernel":
            return [call, self._work(call, float(number))]
        elif name == "cudaGraphLaunch":
            return [call, *(self._work(call, KERNEL_US) for _ in range(int(number)))]
        return [call]

    def _called(self, name: str, like: Event) -> Event:
        self._correlation += 1
        args = {"correlation": self._correlation}
        return {**like, "cat": "cuda_runtime", "name": name, "args": args}

    def _work(self, call: Event, length_us: float) -> Event:
        start_us = max(self._ready_us, call["ts"] + call["dur"] + 3.0)
        self._ready_us = start_us + length_us
        args = {"device": 0, "stream": 7, "correlation": self._correlation}
        place = {"pid": 0, "tid": 7, "ts": start_us, "dur": length_us}
        return {"ph": "X", "cat": "kernel", "name": "small_kernel", **place, "args": args}


def _annotations(events: list[Event]) -> list[Event]:
    return [each for each in events if each.get("cat") == "user_annotation"]
