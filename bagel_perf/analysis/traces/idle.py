"""Why a device had nothing to do, and what each wait of the host cost it.

A gap that opens while the host is held in a wait, and closes with what the host launched afterwards, is that wait's,
all of it: had the host not waited, it would have launched before. A wait that begins when the device is idle already
costs only the time that it holds the host; the rest of that gap has another cause.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bagel_perf.analysis.traces.charges import charge_waits
from bagel_perf.analysis.traces.gaps import Busy, Gaps, find_gaps
from bagel_perf.analysis.traces.issuing import issuing_us
from bagel_perf.analysis.traces.table import NONE, Floats, Ints, Mask, at_rows
from bagel_perf.analysis.traces.trace import Trace
from bagel_perf.analysis.traces.waits import Waits
from bagel_perf.analysis.traces.window import Window, window_of
from bagel_perf.schema.traces import IDLE_CLASSES, IdleClass

# The host counts as issuing in a stretch of which this share went into giving the device work.
MIN_ISSUING_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Gaps and their causes. ``launch`` is the row of the call that ended each gap, NONE where unknown.

    ``lost_us`` is the part of each gap that waits caused, ``wait`` the last such wait; ``cause`` is why the device was
    idle for the rest of it, a number into ``IDLE_CLASSES`` (after_sync if nothing is left). ``lost_by_wait_us`` is what
    each wait caused on all devices together.
    """

    busy: Busy
    launch: Ints
    wait: Ints
    lost_us: Floats
    cause: Ints
    lost_by_wait_us: Floats

    @property
    def gaps(self) -> Gaps:
        """The gaps, row by row as the other columns."""
        return self.busy.gaps

    def main_cause(self) -> Ints:
        """The cause of the larger part of each gap."""
        after_sync = IDLE_CLASSES.index("after_sync")
        return np.where(self.lost_us * 2 >= self.gaps.length_us, after_sync, self.cause)

    def by_class_us(self, rows: Mask | None = None) -> dict[IdleClass, float]:
        """Idle time of (some) gaps by class; the classes add up to all of it."""
        chosen = np.ones(len(self.cause), np.bool_) if rows is None else rows
        rest_us = (self.gaps.length_us - self.lost_us)[chosen]
        sums = _sums(self.cause[chosen], rest_us, len(IDLE_CLASSES))
        sums[IDLE_CLASSES.index("after_sync")] += self.lost_us[chosen].sum()
        return dict(zip(IDLE_CLASSES, map(float, sums), strict=True))


def find_idle(trace: Trace, waits: Waits, window: Window | None = None) -> Idle:
    """Every gap of every device in the window (default: ``window_of(trace)``), classified and charged to waits."""
    window = window_of(trace) if window is None else window
    busy = find_gaps(trace, window)
    gaps = busy.gaps
    launch = np.where(gaps.after == NONE, NONE, at_rows(trace.call_of_activity, gaps.after))
    cause = np.full(len(gaps), IDLE_CLASSES.index("unknown"))
    at_edge = (gaps.before == NONE) | (gaps.after == NONE)
    cause[at_edge] = IDLE_CLASSES.index("nothing_to_do")
    known = np.flatnonzero((launch != NONE) & ~at_edge)
    returned_us = trace.calls.end_us[launch[known]]
    late = returned_us > gaps.start_us[known]
    cause[known[~late]] = IDLE_CLASSES.index("queued")
    late_gaps = known[late]
    charges = charge_waits(trace, waits, gaps, launch, late_gaps)
    # Sums of parts may exceed the whole by a rounding error.
    lost_us = np.minimum(_sums(charges.gap, charges.lost_us, len(gaps)), gaps.length_us)
    wait = np.full(len(gaps), NONE)
    wait[charges.gap] = charges.wait
    cause[late_gaps] = _host_causes(trace, gaps, launch, late_gaps, lost_us)
    cause[lost_us >= gaps.length_us] = IDLE_CLASSES.index("after_sync")
    return Idle(
        busy=busy,
        launch=launch,
        wait=wait,
        lost_us=lost_us,
        cause=cause,
        lost_by_wait_us=_sums(charges.wait, charges.lost_us, len(waits)),
    )


def _host_causes(trace: Trace, gaps: Gaps, launch: Ints, late: Ints, lost_us: Floats) -> Ints:
    """Whether the host issued work or did something else in the part of each late gap that no wait caused."""
    call = launch[late]
    start_us = gaps.start_us[late]
    end_us = np.maximum(np.minimum(trace.calls.end_us[call], gaps.end_us[late]), start_us)
    issued_us = issuing_us(trace, start_us, end_us, trace.calls.thread[call])
    # A wait is a call, and so counts as issuing; here it is neither.
    was_issuing = issued_us - lost_us[late] >= MIN_ISSUING_SHARE * (end_us - start_us - lost_us[late])
    return np.where(was_issuing, IDLE_CLASSES.index("launch_bound"), IDLE_CLASSES.index("cpu_elsewhere"))


def _sums(keys: Ints, values: Floats, num_keys: int) -> Floats:
    """The sum of the values of each key."""
    return np.bincount(keys, weights=values, minlength=num_keys).astype(np.float64)
