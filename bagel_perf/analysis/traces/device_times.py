"""How devices and their streams spent the window: at what kind of work, with how much queued, launched how late."""

from __future__ import annotations

import numpy as np

from bagel_perf.analysis.traces.apis import Api
from bagel_perf.analysis.traces.columns import grouped
from bagel_perf.analysis.traces.findings import Findings
from bagel_perf.analysis.traces.intervals import covered_us, union
from bagel_perf.analysis.traces.table import NONE, Floats, Ints, Mask, at_rows
from bagel_perf.analysis.traces.trace import Trace
from bagel_perf.analysis.traces.work_classes import COMMUNICATION, COMPUTE, class_names, kinds_of_work
from bagel_perf.schema.traces import DeviceTime, LaunchDelay, QueueLength, StreamTime

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
