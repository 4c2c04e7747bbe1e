"""What a GPU did in a stage, from the profiled run of a variant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bagel_perf.schema.results import Cell
from bagel_perf.schema.runs import DeviceWork, ProfiledRun, Run, runs_of


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
