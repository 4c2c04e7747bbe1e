"""Stretches of a trace as lanes to draw, bounded in size however large the trace is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bagel_perf.records.sites import KINDS
from bagel_perf.records.traces import CAUSES, MAX_SEGMENTS, PATH_SEPARATOR, Lanes
from bagel_perf.traces.findings import Findings
from bagel_perf.traces.tables import NONE, Floats, Ints
from bagel_perf.traces.waits import main_thread
from bagel_perf.traces.window import merged, union

MAX_REGIONS = 8
MAX_DEVICES = 8

Drawn = tuple[float, float, int, float]
"""Begin and end in ms, label, and the share of it that is filled."""


def lanes(findings: Findings, site_of_marker: Mapping[int, int], site_of_wait: Ints) -> tuple[Lanes, ...]:
    """The whole window, then of each region that caused most idle time the one call of it that did; then other devices.

    ``site_of_marker`` numbers the sites of the waits with each marker; without any there are no places.
    ``site_of_wait`` numbers the sites of the report by wait.
    """
    window = findings.window
    drawn = [_lanes(findings, site_of_marker, site_of_wait, "", window.start_us, window.end_us)]
    path, length_us, start_us = findings.regions.spans()
    end_us = start_us + length_us
    weight_us = _lost_between(findings, start_us, end_us) + length_us * 1e-6  # the longest, where nothing is lost
    inside = (end_us > window.start_us) & (start_us < window.end_us) & (length_us > 0)
    totals_us = np.bincount(path[inside], weights=weight_us[inside], minlength=len(findings.regions.paths))
    for number in np.argsort(-totals_us, kind="stable")[:MAX_REGIONS]:
        calls = np.flatnonzero(inside & (path == number))
        if number and len(calls):
            call = calls[weight_us[calls].argmax()]
            name = PATH_SEPARATOR.join(findings.regions.paths[int(number)])
            span_us = float(start_us[call]), float(end_us[call])
            drawn.append(_lanes(findings, site_of_marker, site_of_wait, name, *span_us))
    others = findings.idle.busy.devices[1:MAX_DEVICES]
    return (*drawn, *(_of_device(findings, int(device)) for device in others))


def _of_device(findings: Findings, device: int) -> Lanes:
    """The whole window of a device that is not the first."""
    window = findings.window
    segments = _device_segments(findings, device, window.start_us, window.end_us)
    return Lanes(
        region="",
        start_ms=0.0,
        end_ms=window.length_us / 1e3,
        cpu=(),
        syncs=(),
        gpu=tuple((begin, end, "") for begin, end, *_ in segments["gpu"]),
        idle=tuple((begin, end, CAUSES[each]) for begin, end, each, _ in segments["idle"]),
        shares=_shares(segments),
        device=device,
    )


def _lost_between(findings: Findings, start_us: Floats, end_us: Floats) -> Floats:
    """The idle time that waits opened which end in each stretch."""
    waits = findings.waits
    order = np.argsort(waits.end_us, kind="stable")
    sums_us = np.concatenate([[0.0], np.cumsum(findings.idle.lost_by_wait_us[order])])
    places = np.searchsorted(waits.end_us[order], np.column_stack([start_us, end_us]))
    lost_us: Floats = sums_us[places[:, 1]] - sums_us[places[:, 0]]
    return lost_us


def _lanes(
    findings: Findings,
    site_of_marker: Mapping[int, int],
    site_of_wait: Ints,
    region: str,
    start_us: float,
    end_us: float,
) -> Lanes:
    trace, waits = findings.trace, findings.waits
    thread = main_thread(trace)
    devices = findings.idle.busy.devices
    zero_us = findings.window.start_us
    on_cpu = [
        (table.start_us[table.thread == thread], table.end_us[table.thread == thread])
        for table in (trace.ops, trace.calls)
    ]
    cpu = union(*(np.concatenate(column) for column in zip(*on_cpu, strict=True)))
    mine = waits.thread == thread
    keys = np.column_stack([waits.kind, waits.marker, site_of_wait])[mine]
    distinct, label = np.unique(keys, axis=0, return_inverse=True)
    spans = waits.start_us[mine], waits.end_us[mine]
    drawn = {
        "cpu": _clipped(*cpu, np.zeros(len(cpu[0]), np.int64), start_us, end_us, zero_us),
        "syncs": _clipped(*spans, label.reshape(-1), start_us, end_us, zero_us),
        **_device_segments(findings, int(devices[0]) if len(devices) else NONE, start_us, end_us),
    }
    return Lanes(
        region=region,
        start_ms=(start_us - zero_us) / 1e3,
        end_ms=(end_us - zero_us) / 1e3,
        cpu=tuple((begin, end, "") for begin, end, *_ in drawn["cpu"]),
        syncs=tuple((begin, end, KINDS[distinct[each, 0]]) for begin, end, each, _ in drawn["syncs"]),
        gpu=tuple((begin, end, "") for begin, end, *_ in drawn["gpu"]),
        idle=tuple((begin, end, CAUSES[each]) for begin, end, each, _ in drawn["idle"]),
        places=tuple(
            site_of_marker.get(int(distinct[each, 1]), NONE) for _, _, each, _ in drawn["syncs"] if site_of_marker
        ),
        shares=_shares(drawn),
        sites=tuple(int(distinct[each, 2]) for _, _, each, _ in drawn["syncs"]),
        device=int(devices[0]) if len(devices) > 1 else None,
    )


def _device_segments(findings: Findings, device: int, start_us: float, end_us: float) -> dict[str, list[Drawn]]:
    """The lanes of a device; empty where there is none."""
    activities, parts, zero_us = findings.trace.activities, findings.idle.parts, findings.window.start_us
    on_device = activities.device == device
    gpu = union(activities.start_us[on_device], activities.end_us[on_device])
    idle = findings.idle.gaps.device[parts.gap] == device
    spans = parts.start_us[idle], parts.end_us[idle]
    return {
        "gpu": _clipped(*gpu, np.zeros(len(gpu[0]), np.int64), start_us, end_us, zero_us),
        "idle": _clipped(*spans, parts.cause[idle], start_us, end_us, zero_us),
    }


def _shares(drawn: Mapping[str, list[Drawn]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(share for *_, share in segments) for name, segments in drawn.items()}


def _clipped(
    starts_us: Floats, ends_us: Floats, labels: Ints, start_us: float, end_us: float, zero_us: float
) -> list[Drawn]:
    """What of the intervals lies in a stretch."""
    inside = np.flatnonzero((ends_us > start_us) & (starts_us < end_us))
    clipped = np.clip(starts_us[inside], start_us, end_us), np.clip(ends_us[inside], start_us, end_us)
    return _segments(*clipped, labels[inside], zero_us)


def _segments(start_us: Floats, end_us: Floats, label: Ints, zero_us: float) -> list[Drawn]:
    """Intervals merged to at most ``MAX_SEGMENTS``, each with the label that most of it has and the share it fills."""
    if not len(start_us):
        return []
    group = merged(start_us, end_us, MAX_SEGMENTS)
    num_groups, num_labels = int(group[-1]) + 1, int(label.max()) + 1
    weights = np.bincount(group * num_labels + label, weights=end_us - start_us, minlength=num_groups * num_labels)
    by_label = weights.reshape(num_groups, num_labels)
    first = np.flatnonzero(np.diff(group, prepend=NONE))
    last = np.append(first[1:], len(group)) - 1
    begins_ms = np.round((start_us[first] - zero_us) / 1e3, 4)
    ends_ms = np.round((end_us[last] - zero_us) / 1e3, 4)
    lengths_us = end_us[last] - start_us[first]
    shares = np.divide(by_label.sum(axis=1), lengths_us, out=np.ones(num_groups), where=lengths_us > 0)
    columns = begins_ms.tolist(), ends_ms.tolist(), by_label.argmax(axis=1).tolist(), np.round(shares, 3).tolist()
    return list(zip(*columns, strict=True))
