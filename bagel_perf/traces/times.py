"""How the time was spent, by step, region, device and stream: at what kind of work, idle, queued, launched how late.

A region counts what lies in it and in the regions inside it.
"""

from __future__ import annotations

import numpy as np

from bagel_perf.records.sites import KINDS
from bagel_perf.records.traces import CAUSES, DeviceTime, LaunchDelay, QueueLength, RegionTime, StepTime, StreamTime
from bagel_perf.traces.findings import Findings
from bagel_perf.traces.names import COMMUNICATION, COMPUTE, class_names, kinds_of_work
from bagel_perf.traces.regions import Steps
from bagel_perf.traces.tables import NONE, Floats, Ints, Mask, at_rows, grouped
from bagel_perf.traces.trace import Api, Trace
from bagel_perf.traces.window import covered_us, cut, union

LEAST_US = 0.01
"""Of idle time of one cause: less is left over where sums of large numbers are subtracted."""


def step_times(findings: Findings, *, knows_idle: bool) -> tuple[StepTime, ...]:
    """The steps of the window one by one; none where they cannot be told apart.

    Work of communication belongs to the step that launched it, wherever it ran: a host runs ahead of its device, and on
    some ranks farther than on others.
    """
    steps, window, trace = findings.steps, findings.window, findings.trace
    if steps is None:
        return ()
    edges_us = np.clip(np.append(steps.start_us, steps.end_us[-1]), window.start_us, window.end_us)
    wall_us = np.diff(edges_us)
    by_cause_us = _idle_us(findings, edges_us)
    idle_us = by_cause_us.sum(axis=0)
    busy_us = len(findings.idle.busy.devices) * wall_us - idle_us
    communication_us, exposed_us = _communication_us(findings, steps)
    knows_waits = len(trace.calls) > 0 or len(trace.syncs) > 0
    syncs = np.histogram(findings.waits.start_us, edges_us)[0]
    found = []
    for number in range(len(steps)):
        causes = zip(CAUSES, by_cause_us[:, number].tolist(), strict=True)
        found.append(
            StepTime(
                number=number,
                is_warm_up=number < steps.num_warm_up,
                start_ms=float(edges_us[number] - window.start_us) / 1e3,
                wall_ms=float(wall_us[number]) / 1e3,
                host_syncs=int(syncs[number]) if knows_waits else None,
                gpu_busy_ms=max(float(busy_us[number]), 0.0) / 1e3 if findings.has_gpu else None,
                gpu_idle_ms=float(idle_us[number]) / 1e3 if knows_idle else None,
                communication_ms=float(communication_us[number]) / 1e3 if findings.has_gpu else None,
                exposed_communication_ms=float(exposed_us[number]) / 1e3 if findings.has_gpu else None,
                idle_by_cause_ms={cause: us / 1e3 for cause, us in causes if us > 0 and knows_idle},
            )
        )
    return tuple(found)


def _idle_us(findings: Findings, edges_us: Floats) -> Floats:
    """Idle time by cause, a row each, and stretch between two edges; parts of several devices may overlap."""
    parts = findings.idle.parts
    idle_us = np.array(
        [
            np.diff(_elapsed_us(parts.start_us[mine], edges_us) - _elapsed_us(parts.end_us[mine], edges_us))
            for mine in (parts.cause == cause for cause in range(len(CAUSES)))
        ]
    )
    return np.where(idle_us < LEAST_US, 0.0, idle_us)


def _elapsed_us(moments_us: Floats, at_us: Floats) -> Floats:
    """The time that has passed at each of some moments since all earlier ones of others, summed up."""
    rising_us = np.sort(moments_us)
    num_before = np.searchsorted(rising_us, at_us)
    sums_us = np.concatenate([[0.0], np.cumsum(rising_us)])
    elapsed_us: Floats = num_before * at_us - sums_us[num_before]
    return elapsed_us


def _communication_us(findings: Findings, steps: Steps) -> tuple[Floats, Floats]:
    """For each step the time in communication that it launched, and what of that nothing was computed beside."""
    trace, kinds = findings.trace, kinds_of_work(findings.trace)
    activities, step = trace.activities, _step_of_work(findings, steps)
    total_us, exposed_us = np.zeros(len(steps)), np.zeros(len(steps))
    for device in findings.idle.busy.devices:
        mine = activities.device == device
        rows = np.flatnonzero(mine & (kinds == COMMUNICATION) & (step != NONE))
        if not len(rows):
            continue
        computing = np.flatnonzero(mine & (kinds == COMPUTE))
        computed = union(activities.start_us[computing], activities.end_us[computing])
        start_us, end_us = activities.start_us[rows], activities.end_us[rows]
        # Steps are moved apart, so that the union of each is its own.
        apart_us = step[rows] * (trace.end_us + 1)
        starts_us, ends_us = union(start_us + apart_us, end_us + apart_us)
        number = np.floor_divide(starts_us, trace.end_us + 1).astype(np.int64)
        starts_us, ends_us = starts_us - number * (trace.end_us + 1), ends_us - number * (trace.end_us + 1)
        length_us = ends_us - starts_us
        hidden_us = covered_us(*computed, starts_us, ends_us)
        total_us += np.bincount(number, weights=length_us, minlength=len(steps))
        exposed_us += np.bincount(number, weights=np.maximum(length_us - hidden_us, 0.0), minlength=len(steps))
    return total_us, exposed_us


def _step_of_work(findings: Findings, steps: Steps) -> Ints:
    """The step of each activity, by its launch where the host's steps are known; NONE outside of all."""
    trace = findings.trace
    begun_us, launcher = trace.activities.start_us, trace.call_of_activity
    if not steps.of_device:
        begun_us = np.where(launcher == NONE, begun_us, at_rows(trace.calls.start_us, launcher))
    return np.where(begun_us > steps.end_us[-1], NONE, steps.at(begun_us))


def region_times(findings: Findings) -> tuple[RegionTime, ...]:
    """Every region with its figures, a parent before its children, siblings by falling idle time caused.

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
    parts = findings.idle.parts
    found = []
    for each, rows in grouped(parts.thread):
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
        # Paths are numbered as they are met, so all are asked for before anything is summed.
        region, cause, part_us = idle_by_region(findings)
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
            name: self._sum(region[cause == number], part_us[cause == number]) for number, name in enumerate(CAUSES)
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


NUM_BINS = 60


def device_times(findings: Findings) -> tuple[DeviceTime, ...]:
    """Each device with its busy and idle time, and what of the busy time nothing was computed beside."""
    names, busy = findings.trace.source.device_names, findings.idle.busy
    kinds, activities, window = kinds_of_work(findings.trace), findings.trace.activities, findings.window
    found = []
    for device, busy_us in zip(busy.devices, busy.busy_us, strict=True):
        rows = np.flatnonzero(activities.device == device)
        compute_us = _covered(findings, rows[kinds[rows] == COMPUTE])
        with_communication_us = _covered(findings, rows[(kinds[rows] == COMPUTE) | (kinds[rows] == COMMUNICATION)])
        found.append(
            DeviceTime(
                device=device,
                name=names.get(device, ""),
                busy_ms=busy_us / 1e3,
                idle_ms=(window.length_us - busy_us) / 1e3,
                compute_ms=compute_us / 1e3,
                exposed_communication_ms=(with_communication_us - compute_us) / 1e3,
                exposed_copy_ms=max(busy_us - with_communication_us, 0.0) / 1e3,
            )
        )
    return tuple(found)


def stream_times(findings: Findings) -> tuple[StreamTime, ...]:
    """Each stream that did something in the window, the busiest first."""
    activities, window = findings.trace.activities, findings.window
    inside = _inside(findings)
    found = []
    for device, places in grouped(activities.device[inside]):
        for stream, of_stream in grouped(activities.stream[inside[places]]):
            rows = inside[places[of_stream]]
            busy_ms = _covered(findings, rows) / 1e3
            idle_ms = window.length_us / 1e3 - busy_ms
            found.append(
                StreamTime(device=device, stream=stream, activities=len(rows), busy_ms=busy_ms, idle_ms=idle_ms)
            )
    return tuple(sorted(found, key=lambda each: (-each.busy_ms, each.device, each.stream)))


def queue_lengths(findings: Findings) -> tuple[QueueLength, ...]:
    """How much work each device had launched and not begun; a graph counts once, by the first of its work."""
    trace, window = findings.trace, findings.window
    activities, launcher = trace.activities, trace.call_of_activity
    is_first = _first_of_launches(trace)
    known = np.flatnonzero((launcher != NONE) & is_first)
    found = []
    for device, places in grouped(activities.device[known]):
        rows = known[places]
        launched_us = np.clip(trace.calls.end_us[launcher[rows]], window.start_us, window.end_us)
        begun_us = np.clip(activities.start_us[rows], launched_us, window.end_us)
        if device in findings.idle.busy.devices and window.length_us > 0:
            found.append(_queue(device, launched_us, begun_us, window.start_us, window.end_us))
    return tuple(found)


def _queue(device: int, launched_us: Floats, begun_us: Floats, start_us: float, end_us: float) -> QueueLength:
    moments_us = np.concatenate([[start_us], launched_us, begun_us, [end_us]])
    steps = np.concatenate([[0], np.ones(len(launched_us)), -np.ones(len(begun_us)), [0]])
    order = np.lexsort((steps, moments_us))
    moments_us, length = moments_us[order], np.maximum(np.cumsum(steps[order]), 0.0)
    spans_us = np.diff(moments_us)
    so_far = np.concatenate([[0.0], np.cumsum(length[:-1] * spans_us)])
    edges_us = np.linspace(start_us, end_us, NUM_BINS + 1)
    means = np.diff(np.interp(edges_us, moments_us, so_far)) / np.diff(edges_us)
    return QueueLength(
        device=device,
        mean=float(so_far[-1] / (end_us - start_us)),
        longest=int(length.max()),
        empty_share=float(spans_us[length[:-1] == 0].sum() / (end_us - start_us)),
        means=tuple(np.round(means, 3).tolist()),
    )


def launch_delays(findings: Findings) -> tuple[LaunchDelay, ...]:
    """How long work took from the begin of its launch call to its own, by class, the most frequent first.

    A graph counts once, as a class of its own.
    """
    trace = findings.trace
    rows = _inside(findings)
    rows = rows[(trace.call_of_activity[rows] != NONE) & _first_of_launches(trace)[rows]]
    classes, names = class_names(trace)
    api = at_rows(trace.apis, trace.call_of_activity)
    classes = np.where(api == Api.GRAPH_LAUNCH, len(names), classes)
    names = (*names, "graph")
    delay_us = np.maximum(trace.activities.start_us[rows] - trace.calls.start_us[trace.call_of_activity[rows]], 0.0)
    found = []
    for number, places in grouped(classes[rows]):
        mine = delay_us[places]
        middle, late = np.percentile(mine, [50, 95])
        found.append(
            LaunchDelay(
                work=names[number],
                count=len(mine),
                median_us=float(middle),
                p95_us=float(late),
                longest_us=float(mine.max()),
            )
        )
    return tuple(sorted(found, key=lambda each: (-each.count, each.work)))


def _first_of_launches(trace: Trace) -> Mask:
    """Which activities are the first that their launch started."""
    is_first = np.zeros(len(trace.activities), np.bool_)
    is_first[trace.activity_of_call[trace.activity_of_call != NONE]] = True
    return is_first


def _inside(findings: Findings) -> Ints:
    """The activities that begin in the window."""
    activities, window = findings.trace.activities, findings.window
    return np.flatnonzero((activities.start_us >= window.start_us) & (activities.start_us <= window.end_us))


def _covered(findings: Findings, rows: Ints) -> float:
    """How much of the window some activities cover, in us."""
    activities, window = findings.trace.activities, findings.window
    start_us, end_us = np.array([window.start_us]), np.array([window.end_us])
    return float(covered_us(*union(activities.start_us[rows], activities.end_us[rows]), start_us, end_us)[0])
