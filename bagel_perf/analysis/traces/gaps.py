"""When a device was busy, and the gaps in between: over all of its streams, inside a window."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from bagel_perf.analysis.traces.columns import grouped
from bagel_perf.analysis.traces.table import NONE, Floats, Ints
from bagel_perf.analysis.traces.trace import Trace
from bagel_perf.analysis.traces.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Stretches without work, one row each, by device and start.

    ``before`` and ``after`` are the rows of the activities around a gap; NONE at the ends of the window.
    """

    device: Ints
    start_us: Floats
    end_us: Floats
    before: Ints
    after: Ints

    def __len__(self) -> int:
        return len(self.start_us)

    @property
    def length_us(self) -> Floats:
        """How long each lasts."""
        return self.end_us - self.start_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """``added_us`` is what each activity adds to the time in which its device is busy; the sums are the busy times."""

    devices: tuple[int, ...]
    busy_us: tuple[float, ...]
    added_us: Floats
    gaps: Gaps


def find_gaps(trace: Trace, window: Window) -> Busy:
    """Busy time and gaps of every device that did something in the trace; in the window they add up to its length."""
    activities = trace.activities
    added_us = np.zeros(len(activities))
    devices, busy_us, gaps = [], [], []
    for device, rows in grouped(activities.device):
        inside = rows[(activities.end_us[rows] > window.start_us) & (activities.start_us[rows] < window.end_us)]
        if not len(inside):
            devices.append(device)
            busy_us.append(0.0)
            gaps.append(_whole(device, window))
            continue
        start_us = np.maximum(activities.start_us[inside], window.start_us)
        end_us = np.minimum(activities.end_us[inside], window.end_us)
        reach_us = np.maximum.accumulate(end_us)
        reached_us = np.concatenate([start_us[:1], reach_us[:-1]])
        added_us[inside] = np.maximum(end_us - np.maximum(start_us, reached_us), 0.0)
        devices.append(device)
        busy_us.append(float(added_us[inside].sum()))
        gaps.append(_gaps_between(device, inside, start_us, end_us, reach_us, window))
    return Busy(
        devices=tuple(devices),
        busy_us=tuple(busy_us),
        added_us=added_us,
        gaps=_joined(gaps),
    )


def _whole(device: int, window: Window) -> Gaps:
    """One gap over all of the window, if that has a length."""
    nothing = np.full(int(window.length_us > 0), NONE)
    at = np.ones(len(nothing))
    return Gaps(
        device=np.full(len(nothing), device),
        start_us=at * window.start_us,
        end_us=at * window.end_us,
        before=nothing,
        after=nothing,
    )


def _gaps_between(device: int, rows: Ints, start_us: Floats, end_us: Floats, reach_us: Floats, window: Window) -> Gaps:
    """The gaps of one device, those at the ends of the window among them."""
    # The activity that holds the device busy longest so far, at each place.
    places = np.arange(len(rows))
    furthest = np.maximum.accumulate(np.where(end_us >= reach_us, places, 0))
    gap_start_us = np.concatenate([[window.start_us], reach_us])
    gap_end_us = np.concatenate([start_us, [window.end_us]])
    before = np.concatenate([[NONE], rows[furthest]])
    after = np.concatenate([rows, [NONE]])
    kept = gap_end_us > gap_start_us
    return Gaps(
        device=np.full(int(kept.sum()), device),
        start_us=gap_start_us[kept],
        end_us=gap_end_us[kept],
        before=before[kept],
        after=after[kept],
    )


def _joined(parts: list[Gaps]) -> Gaps:
    if not parts:
        none, nowhere = np.empty(0), np.empty(0, np.int64)
        return Gaps(device=nowhere, start_us=none, end_us=none, before=nowhere, after=nowhere)
    return Gaps(**{each.name: np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Gaps)})
