"""Which part of a gap each wait of the host caused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bagel_perf.analysis.traces.columns import grouped
from bagel_perf.analysis.traces.gaps import Gaps
from bagel_perf.analysis.traces.table import NONE, Floats, Ints
from bagel_perf.analysis.traces.trace import Trace
from bagel_perf.analysis.traces.waits import Waits

# Clocks of host and device disagree by about this much.
CLOCK_SKEW_US = 2.0
# A wait that returned this long before the device ran dry left no time to launch anything: a launch takes 5 to 10 us.
RELAUNCH_US = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Charges:
    """Parts of gaps and the waits that caused them, by gap and end of the wait."""

    gap: Ints
    wait: Ints
    lost_us: Floats


def charge_waits(trace: Trace, waits: Waits, gaps: Gaps, launch: Ints, late: Ints) -> Charges:
    """Charges the gaps ``late``, which calls ``launch`` ended, to the waits of the threads of those calls.

    Several waits that return inside one gap share it: up to each return it is that wait's, the rest is the last one's.
    If the first of them begins in the gap, when the device is idle already, each is charged only what it held the host.
    """
    launches = np.flatnonzero(trace.activity_of_call != NONE)
    launches_of = {thread: launches[places] for thread, places in grouped(trace.calls.thread[launches])}
    waits_of = dict(grouped(waits.thread))
    parts: list[Charges] = []
    for thread, places in grouped(trace.calls.thread[launch[late]]):
        if thread in waits_of:
            rows = waits_of[thread][np.argsort(waits.end_us[waits_of[thread]], kind="stable")]
            mine = late[places]
            launched_us = trace.calls.start_us[launch[mine]]
            before_us = _launch_before(trace.calls.start_us[launches_of[thread]], launched_us)
            first, last = _returning(waits.end_us[rows], gaps.start_us[mine], launched_us, before_us)
            parts.append(_shares(waits, gaps, rows, mine, first, last))
    return Charges(
        gap=np.concatenate([part.gap for part in parts] or [np.empty(0, np.int64)]),
        wait=np.concatenate([part.wait for part in parts] or [np.empty(0, np.int64)]),
        lost_us=np.concatenate([part.lost_us for part in parts] or [np.empty(0)]),
    )


def _launch_before(launches_us: Floats, launched_us: Floats) -> Floats:
    """When the thread launched something the last time before each launch, minus infinity if never."""
    place = np.searchsorted(launches_us, launched_us, side="left") - 1
    return np.where(place >= 0, launches_us[np.maximum(place, 0)], -np.inf)


def _returning(ends_us: Floats, gap_us: Floats, launched_us: Floats, before_us: Floats) -> tuple[Ints, Ints]:
    """The range of waits (sorted by end) that return between the start of a gap and the launch that ends it.

    Where there is none, the one that returned just before the gap counts, if nothing was launched after it.
    """
    first = np.searchsorted(ends_us, gap_us, side="left")
    last = np.searchsorted(ends_us, launched_us, side="right")
    earlier_us = np.where(first > 0, ends_us[np.maximum(first - 1, 0)], -np.inf)
    just_before = (last <= first) & (earlier_us >= gap_us - RELAUNCH_US) & (before_us < earlier_us)
    just_before &= earlier_us <= launched_us
    return np.where(just_before, first - 1, first), np.where(just_before, first, np.maximum(last, first))


def _shares(waits: Waits, gaps: Gaps, rows: Ints, mine: Ints, first: Ints, last: Ints) -> Charges:
    """One row for each wait in the range of each gap; ``rows`` are the waits of the thread by end."""
    counts = last - first
    gap = np.repeat(mine, counts)
    ordinal = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    place = np.repeat(first, counts) + ordinal
    wait = rows[place]
    gap_start_us, gap_end_us = gaps.start_us[gap], gaps.end_us[gap]
    is_last = ordinal == np.repeat(counts, counts) - 1
    start_us = np.where(ordinal == 0, gap_start_us, waits.end_us[rows[np.maximum(place - 1, 0)]])
    end_us = np.where(is_last, gap_end_us, waits.end_us[wait])
    opener = rows[np.minimum(np.repeat(first, counts), len(rows) - 1)]
    ran_dry_in_wait = waits.begun_us[opener] <= gap_start_us + CLOCK_SKEW_US
    start_us = np.where(ran_dry_in_wait, start_us, waits.start_us[wait])
    end_us = np.where(ran_dry_in_wait, end_us, waits.end_us[wait])
    start_us = np.clip(start_us, gap_start_us, gap_end_us)
    end_us = np.clip(end_us, start_us, gap_end_us)
    return Charges(gap=gap, wait=wait, lost_us=end_us - start_us)
