"""Everything by region: a region counts what lies in it and in the regions inside it."""

from __future__ import annotations

import numpy as np

from bagel_perf.analysis.traces.columns import grouped
from bagel_perf.analysis.traces.findings import Findings
from bagel_perf.analysis.traces.intervals import cut
from bagel_perf.analysis.traces.table import NONE, Floats, Ints
from bagel_perf.schema.traces import CAUSES, RegionTime
from bagel_perf.schema.waits import KINDS


def region_times(findings: Findings) -> tuple[RegionTime, ...]:
    """Every region with its figures, a parent before its children, siblings by falling lost time of the device.

    The last one is what lies in no region, unless that is nothing.
    """
    sums = _Sums(findings)
    rows = [sums.row(number) for number in range(len(findings.regions.paths))]
    children: dict[int, list[int]] = {}
    for number, parent in enumerate(findings.regions.parents):
        if number:
            children.setdefault(parent, []).append(number)
    ordered: list[RegionTime] = []

    waiting = [0]
    while waiting:
        number = waiting.pop()
        if number:
            ordered.append(rows[number])
        waiting += sorted(children.get(number, []), key=lambda each: _rank(rows[each]), reverse=True)
    outside = rows[0]
    has_outside = outside.launches or outside.host_syncs or outside.gpu_busy_ms or outside.gpu_idle_ms
    return (*ordered, outside) if has_outside or not ordered else tuple(ordered)


def idle_by_region(findings: Findings) -> tuple[Ints, Ints, Floats]:
    """Parts of gaps cut where the region of their thread changes: path, cause and length of each."""
    parts, thread = findings.idle.parts, findings.idle.thread[findings.idle.parts.gap]
    found = []
    for each, rows in grouped(thread):
        edges_us = np.empty(0) if each == NONE else findings.regions.edges_us(each)
        row, start_us, end_us = cut(parts.start_us[rows], parts.end_us[rows], edges_us)
        middle_us = (start_us + end_us) / 2
        inside = np.zeros(len(row), np.int64)
        if each != NONE:
            inside = findings.regions.at(middle_us, np.full(len(row), each))
        found.append((inside, parts.cause[rows[row]], end_us - start_us))
    region, cause, length_us = zip(*found, strict=True) if found else ((), (), ())
    nothing = np.empty(0, np.int64)
    return (
        np.concatenate([nothing, *region]),
        np.concatenate([nothing, *cause]),
        np.concatenate([np.empty(0), *length_us]),
    )


class _Sums:
    """Sums by path, each taken over all that it contains.

    Idle time belongs to the region in which the launching thread was, and what a wait caused to that of the wait.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        trace, waits, idle = findings.trace, findings.waits, findings.idle
        # First, as it may find paths that no annotation is the end of: those of annotations that cross.
        idle_region, idle_cause, idle_us = idle_by_region(findings)
        path, length_us, start_us = findings.regions.spans()
        window = findings.window
        inside = (start_us + length_us > window.start_us) & (start_us < window.end_us)
        self._calls = self._count(path[inside], inclusive=False)
        self._wall_ms = self._sum(path[inside], length_us[inside], inclusive=False)
        launches = findings.launches
        self._launches = self._count(launches.region[launches.is_launch])
        launcher = trace.call_of_activity
        launched_in = np.where(launcher == NONE, 0, launches.region[launcher] if len(launches.region) else 0)
        self._busy_ms = self._sum(launched_in, idle.busy.added_us)
        self._syncs = {
            kind: self._count(waits.region[waits.kind == number])
            for number, kind in enumerate(KINDS)
            if (waits.kind == number).any()
        }
        self._blocked_ms = self._sum(waits.region, waits.blocked_us)
        self._lost_ms = self._sum(waits.region, idle.lost_by_wait_us)
        self._idle_ms = {
            name: self._sum(idle_region[idle_cause == number], idle_us[idle_cause == number])
            for number, name in enumerate(CAUSES)
        }

    def row(self, number: int) -> RegionTime:
        """The figures of one path."""
        has_gpu = self._findings.has_gpu
        syncs = {kind: int(counts[number]) for kind, counts in self._syncs.items() if counts[number]}
        idle_ms = {name: float(sums[number]) for name, sums in self._idle_ms.items()} if has_gpu else {}
        return RegionTime(
            path=self._findings.regions.paths[number],
            calls=int(self._calls[number]),
            wall_ms=float(self._wall_ms[number]),
            launches=int(self._launches[number]),
            host_syncs=sum(syncs.values()),
            syncs_by_kind=syncs,
            blocked_ms=float(self._blocked_ms[number]),
            gpu_busy_ms=float(self._busy_ms[number]) if has_gpu else None,
            gpu_idle_ms=sum(idle_ms.values()) if has_gpu else None,
            idle_by_cause_ms=idle_ms,
            lost_gpu_ms=float(self._lost_ms[number]) if has_gpu else None,
        )

    def _count(self, path: Ints, *, inclusive: bool = True) -> Floats:
        return self._sum(path, np.full(len(path), 1e3), inclusive=inclusive)

    def _sum(self, path: Ints, values_us: Floats, *, inclusive: bool = True) -> Floats:
        """Thousandths of the sums: microseconds in, milliseconds out."""
        parents = self._findings.regions.parents
        sums = np.bincount(path, weights=values_us, minlength=len(parents)).astype(np.float64) / 1e3
        # A child has a larger number than its parent. The empty path stays what lies in no region.
        for number in range(len(parents) - 1, 0, -1) if inclusive else ():
            if parents[number]:
                sums[parents[number]] += sums[number]
        return sums


def _rank(region: RegionTime) -> tuple[float, float, float, str]:
    return -(region.lost_gpu_ms or 0.0), -(region.gpu_idle_ms or 0.0), -region.wall_ms, region.path[-1]
