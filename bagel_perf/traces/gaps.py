"""When a device was busy, and the gaps in between, over all of its streams; parts of gaps have one cause each."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from bagel_perf.records.traces import CAUSES, Cause
from bagel_perf.traces.tables import NONE, Floats, Ints, Mask, grouped
from bagel_perf.traces.trace import Trace
from bagel_perf.traces.window import Window

_CODES = {cause: number for number, cause in enumerate(CAUSES)}


def code_of(cause: Cause) -> int:
    """The number of a cause in ``CAUSES``."""
    return _CODES[cause]


@dataclass(frozen=True, slots=True, kw_only=True)
class Threads:
    """The threads of each gap: ``after`` ended it, ``before`` had launched the work before it if that is another one.

    After the last work ``after`` is the one that had launched that; NONE where unknown.
    """

    after: Ints
    before: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Parts of gaps by gap and start: those of a gap follow each other and fill it.

    ``cause`` is a number into ``CAUSES``, ``wait`` the row of the wait that caused it, and ``call`` that of the call
    that the host was in, or of the one that put a queued launch behind another stream; each NONE where there is none.
    ``thread`` is the one whose doings tell the cause: that of the launch, or the one before it until that one is heard
    of, as where backward is handed to a thread of its own.
    """

    gap: Ints
    start_us: Floats
    end_us: Floats
    cause: Ints
    wait: Ints
    call: Ints
    thread: Ints

    def __len__(self) -> int:
        return len(self.gap)

    @property
    def length_us(self) -> Floats:
        """How long each lasts."""
        return self.end_us - self.start_us

    def rows_of(self, gap: int) -> Ints:
        """The parts of a gap."""
        return np.arange(np.searchsorted(self.gap, gap), np.searchsorted(self.gap, gap, side="right"))

    def within_us(self, start_us: float, end_us: float) -> Floats:
        """How much of each lies in a stretch."""
        inside_us: Floats = np.maximum(np.minimum(self.end_us, end_us) - np.maximum(self.start_us, start_us), 0.0)
        return inside_us

    @property
    def is_lost(self) -> Mask:
        """Which of them waits caused."""
        lost: Mask = np.isin(self.cause, (code_of("host_sync"), code_of("after_sync")))
        return lost


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
