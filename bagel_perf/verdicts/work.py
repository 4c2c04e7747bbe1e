"""What a GPU did in a stage, from the profiled run of a variant, and how far the stage is from its floor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bagel_perf.records.results import Cell, StageFloor
from bagel_perf.records.runs import DeviceWork, ProfiledRun, Run, runs_of


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstFloor:
    """A latency as a multiple of the floor, and the rates at which it did the floor's operations and bytes."""

    times_floor: float
    tflops: float
    gbps: float


def against_floor(latency_ms: float, floor: StageFloor) -> AgainstFloor:
    """Of a stage that took ``latency_ms``, whatever it did besides what is in the floor."""
    return AgainstFloor(
        times_floor=latency_ms / floor.floor_ms,
        tflops=floor.flops / latency_ms / 1e9,
        gbps=floor.bytes / latency_ms / 1e6,
    )


def work_of(own: Sequence[Run], stages: Sequence[str], *, in_loop: bool = False) -> DeviceWork | None:
    """The work of these stages together, or of their loop. None where nothing was profiled."""
    profiled = next(runs_of(ProfiledRun, own), None)
    if profiled is None:
        return None
    parts = [profiled.measurement(each) for each in stages]
    works = [part.loop_work if in_loop else part.work for part in parts if part is not None]
    return _sum([work for work in works if work is not None])


def busy_share(cell: Cell) -> float | None:
    """Of the median latency, that during which the GPU did anything; None where one of the two was not measured."""
    if cell.work is None or cell.median_ms is None:
        return None
    return cell.work.busy_ms / cell.median_ms


def _sum(works: Sequence[DeviceWork]) -> DeviceWork | None:
    if not works:
        return None
    copies: Counter[str] = Counter()
    for work in works:
        copies.update(work.copies)
    return DeviceWork(
        launches=sum(work.launches for work in works),
        graph_launches=sum(work.graph_launches for work in works),
        kernels=sum(work.kernels for work in works),
        copies=dict(sorted(copies.items())),
        busy_ms=sum(work.busy_ms for work in works),
    )
