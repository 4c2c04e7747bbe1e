"""Counts what a GPU does in each stage of a subject, and times what it reaches on one kind of work.

Work is counted by a profile of CUDA activity alone: one that also records the host's operators would take minutes for a
hundred thousand launches. Without them it knows no regions, so each stretch has a profiler of its own, between two
synchronizations: counts are exact. Rates are timed on a graph of repetitions, so that no launch is in the time.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from bagel_perf.measure.stages import Stage, Subject, run_stages
from bagel_perf.records.runs import DeviceWork
from bagel_perf.rules import torch_names
from bagel_perf.syncs.regions import recording
from bagel_perf.traces.trace import Api, api_of
from bagel_perf.traces.window import union

NUM_REPLAYS = 5
MIN_BYTES = 1 << 28
"""Weights that repetitions take in turn, so that none is still in the L2 cache (50 MiB on Hopper) when used again."""


def device_us(work: Callable[[], object], repeats: int = 1) -> float:
    """Least time on the device of some replays, in us, over ``repeats``, the repetitions that ``work`` holds."""
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    times_ms: list[float] = []
    for _ in range(1 + NUM_REPLAYS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times_ms.append(begin.elapsed_time(end))
    return min(times_ms[1:]) * 1e3 / repeats


def gemm_us(rows: int, num_in: int, num_out: int, device: torch.device) -> float:
    """One bf16 product [rows, num_in] x [num_in, num_out]."""
    x = torch.randn(rows, num_in, device=device, dtype=torch.bfloat16)
    number = max(2, min(16, MIN_BYTES // (2 * num_in * num_out)))
    weights = [torch.randn(num_out, num_in, device=device, dtype=torch.bfloat16) for _ in range(number)]
    y = x.new_empty(rows, num_out)
    repeats = number if rows * num_out * num_in > 1 << 36 else 4 * number

    def work() -> None:
        for weight in islice(cycle(weights), repeats):
            torch.mm(x, weight.t(), out=y)

    return device_us(work, repeats)


def attention_us(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], shapes: tuple[tuple[int, ...], ...], device: torch.device
) -> float:
    """One call of ``attend`` on bf16 queries, keys and values of these shapes."""
    q, k, v = (torch.randn(shape, device=device, dtype=torch.bfloat16) for shape in shapes)
    repeats = 8

    def work() -> None:
        for _ in range(repeats):
            attend(q, k, v)

    return device_us(work, repeats)


def copy_tbps(device: torch.device, num_bytes: int = 1 << 30) -> float:
    """Bytes read and written per second by a large copy, in TB/s."""
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * num_bytes / device_us(lambda: target.copy_(source)) / 1e6


def launch_us(device: torch.device, number: int = 2000) -> float:
    """Host time of launching one small kernel while the device keeps up."""
    x = torch.zeros(1, device=device)
    x.add_(1)
    torch.cuda.synchronize(device)
    begin_ns = time.perf_counter_ns()
    for _ in range(number):
        x.add_(1)
    torch.cuda.synchronize(device)
    return (time.perf_counter_ns() - begin_ns) / number / 1e3


_DeviceType: Any = torch_names.DEVICE_TYPE.find()
_DIRECTIONS = ("HtoD", "DtoH", "DtoD", "PtoP", "HtoH")


@dataclass(frozen=True, slots=True)
class Activity:
    """A call of the host into CUDA, or something that ran on the device, with begin and end in ns."""

    name: str
    on_device: bool
    begin_ns: int
    end_ns: int


@dataclass(slots=True)
class Worked:
    """Output of a subject, and the work of each stage and of the inner region within it, by name of the stage."""

    output: Any = None
    by_stage: dict[str, DeviceWork] = field(default_factory=dict)
    inner_by_stage: dict[str, DeviceWork] = field(default_factory=dict)


def count_device_work(subject: Subject, inner: str) -> Worked:
    """Runs a subject on CUDA under profilers; ``inner`` is the region that is also counted by itself."""
    stretches = _Stretches(inner)
    worked = Worked()

    def profiled(stage: Stage) -> Callable[[Any], Any]:
        def run(value: Any) -> Any:
            stretches.begin(stage.name, is_inner=False)
            try:
                return stage.run(value)
            finally:
                stretches.end()

        return run

    with recording(stretches):
        worked.output = run_stages(subject, profiled)
    for stage in subject.stages:
        seen, seen_inner = stretches.seen.get((stage.name, False), []), stretches.seen.get((stage.name, True))
        worked.by_stage[stage.name] = work_of(seen + (seen_inner or []))
        if seen_inner is not None:
            worked.inner_by_stage[stage.name] = work_of(seen_inner)
    return worked


def work_of(activities: Iterable[Activity]) -> DeviceWork:
    """The counts of some activities; device time counts once where kernels overlap."""
    listed = list(activities)
    calls = Counter(api_of(each.name) for each in listed if not each.on_device)
    on_device = [each for each in listed if each.on_device]
    copies: Counter[str] = Counter(filter(None, (_direction(each.name) for each in on_device)))
    first_ns = min((each.begin_ns for each in on_device), default=0)  # of what is left a float holds every nanosecond
    spans_ns = [(each.begin_ns - first_ns, each.end_ns - first_ns) for each in on_device]
    begin_ns, end_ns = union(*np.array(spans_ns, np.float64).reshape(-1, 2).T)
    return DeviceWork(
        launches=calls[Api.LAUNCH] + calls[Api.GRAPH_LAUNCH],
        graph_launches=calls[Api.GRAPH_LAUNCH],
        kernels=len(on_device) - copies.total(),
        copies=dict(sorted(copies.items())),
        busy_ms=float((end_ns - begin_ns).sum()) / 1e6,
    )


def _direction(name: str) -> str | None:
    """Of a copy or fill on the device; None for a kernel."""
    if name.startswith("Memset"):
        return "fill"
    if not name.startswith("Memcpy"):
        return None
    return next((direction for direction in _DIRECTIONS if direction in name), "other")


class _Stretches:
    """Profiles one stretch after another, each between synchronizations, and keeps what was seen by its key."""

    def __init__(self, inner: str) -> None:
        self.seen: dict[tuple[str, bool], list[Activity]] = {}
        self._inner = inner
        self._profiler: profile | None = None
        self._key = ("", False)

    @contextmanager
    def open(self, name: str) -> Iterator[None]:
        """As a sink of regions: the inner region is a stretch, and cuts its stage's in two."""
        if name != self._inner or self._profiler is None:
            yield
            return
        stage, _ = self._key
        self.end()
        self.begin(stage, is_inner=True)
        try:
            yield
        finally:
            self.end()
            self.begin(stage, is_inner=False)

    def begin(self, stage: str, *, is_inner: bool) -> None:
        torch.cuda.synchronize()
        self._key = (stage, is_inner)
        self._profiler = profile(activities=[ProfilerActivity.CUDA])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Profiler clears events.*")  # of cycles, and there is one
            self._profiler.start()

    def end(self) -> None:
        profiler, self._profiler = self._profiler, None
        assert profiler is not None
        torch.cuda.synchronize()
        profiler.stop()
        results: Any = profiler.profiler.kineto_results if profiler.profiler else None
        self.seen.setdefault(self._key, []).extend(_activities(results))


def _activities(results: Any) -> Iterator[Activity]:
    for event in results.events() if results is not None else ():
        begin_ns = event.start_ns()
        on_device = event.device_type() == _DeviceType.CUDA
        yield Activity(event.name(), on_device, begin_ns, begin_ns + event.duration_ns())
