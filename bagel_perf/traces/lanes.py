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

Drawn = tuple[float, float, int, float]
"""Begin and end in ms, label, and the share of it that is filled."""


def lanes(findings: Findings, site_of_marker: Mapping[int, int]) -> tuple[Lanes, ...]:
    """The whole window, then of each region that caused most idle time the one call of it that did.

    ``site_of_marker`` numbers the sites of the waits with each marker; without any there are no places.
    """
    window = findings.window
    drawn = [_lanes(findings, site_of_marker, "", window.start_us, window.end_us)]
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
            drawn.append(_lanes(findings, site_of_marker, name, float(start_us[call]), float(end_us[call])))
    return tuple(drawn)


def _lost_between(findings: Findings, start_us: Floats, end_us: Floats) -> Floats:
    """The idle time that waits opened which end in each stretch."""
    waits = findings.waits
    order = np.argsort(waits.end_us, kind="stable")
    sums_us = np.concatenate([[0.0], np.cumsum(findings.idle.lost_by_wait_us[order])])
    places = np.searchsorted(waits.end_us[order], np.column_stack([start_us, end_us]))
    lost_us: Floats = sums_us[places[:, 1]] - sums_us[places[:, 0]]
    return lost_us


def _lanes(findings: Findings, site_of_marker: Mapping[int, int], region: str, start_us: float, end_us: float) -> Lanes:
    trace, waits, parts = findings.trace, findings.waits, findings.idle.parts
    thread = main_thread(trace)
    device = findings.idle.busy.devices[:1]
    zero_us = findings.window.start_us

    def drawn(starts_us: Floats, ends_us: Floats, labels: Ints | None) -> list[Drawn]:
        labels = np.zeros(len(starts_us), np.int64) if labels is None else labels
        inside = np.flatnonzero((ends_us > start_us) & (starts_us < end_us))
        clipped = np.clip(starts_us[inside], start_us, end_us), np.clip(ends_us[inside], start_us, end_us)
        return _segments(*clipped, labels[inside], zero_us)

    on_cpu = [
        (table.start_us[table.thread == thread], table.end_us[table.thread == thread])
        for table in (trace.ops, trace.calls)
    ]
    cpu = union(*(np.concatenate(column) for column in zip(*on_cpu, strict=True)))
    on_device = np.isin(trace.activities.device, device)
    gpu = union(trace.activities.start_us[on_device], trace.activities.end_us[on_device])
    idle = np.isin(findings.idle.gaps.device[parts.gap], device)
    mine = waits.thread == thread
    distinct, label = np.unique(np.column_stack([waits.kind, waits.marker])[mine], axis=0, return_inverse=True)
    lanes_drawn = {
        "cpu": drawn(*cpu, None),
        "syncs": drawn(waits.start_us[mine], waits.end_us[mine], label.reshape(-1)),
        "gpu": drawn(*gpu, None),
        "idle": drawn(parts.start_us[idle], parts.end_us[idle], parts.cause[idle]),
    }
    return Lanes(
        region=region,
        start_ms=(start_us - zero_us) / 1e3,
        end_ms=(end_us - zero_us) / 1e3,
        cpu=tuple((begin, end, "") for begin, end, *_ in lanes_drawn["cpu"]),
        syncs=tuple((begin, end, KINDS[distinct[each, 0]]) for begin, end, each, _ in lanes_drawn["syncs"]),
        gpu=tuple((begin, end, "") for begin, end, *_ in lanes_drawn["gpu"]),
        idle=tuple((begin, end, CAUSES[each]) for begin, end, each, _ in lanes_drawn["idle"]),
        places=tuple(
            site_of_marker.get(int(distinct[each, 1]), NONE) for _, _, each, _ in lanes_drawn["syncs"] if site_of_marker
        ),
        shares={name: tuple(share for *_, share in segments) for name, segments in lanes_drawn.items()},
    )


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
