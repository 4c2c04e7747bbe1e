"""Everything that is asked of a trace before it is summed up: why a device had nothing to do, what each wait cost it.

A gap is a sequence: the host is held in a wait, is back and does something else, launches; what it launched is on its
way, or waits for something itself. Each part has the cause of its own time. What the host does between a wait and the
next launch is a restart after the wait, as long as it issues without a break: had it not waited, it would have launched
before. A wait that begins when the device is idle already costs only the time that it holds the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bagel_perf.records.traces import CAUSES, Cause
from bagel_perf.traces.gap_parts import parts_of
from bagel_perf.traces.gaps import Busy, Gaps, Parts, Threads, code_of, find_gaps
from bagel_perf.traces.launches import Captures, Launches, find_captures, find_launches
from bagel_perf.traces.regions import Regions, Steps, find_steps
from bagel_perf.traces.tables import NONE, CallSite, Floats, Ints, Mask, at_rows
from bagel_perf.traces.trace import Trace
from bagel_perf.traces.waits import Waits, find_waits, main_thread
from bagel_perf.traces.window import Window, window_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Gaps and the parts that they consist of, each with its cause.

    ``launch`` is the row of the call that ended each gap, NONE where unknown. ``lost_by_wait_us`` is what each wait
    caused on all devices together: the idle time inside it, and the restart after it.
    """

    busy: Busy
    launch: Ints
    parts: Parts
    lost_by_wait_us: Floats

    @property
    def gaps(self) -> Gaps:
        """The gaps, row by row as the other columns."""
        return self.busy.gaps

    def main_cause(self) -> Ints:
        """The cause of most of each gap."""
        num_gaps = len(self.gaps)
        keys = self.parts.gap * len(CAUSES) + self.parts.cause
        sums = np.bincount(keys, weights=self.parts.length_us, minlength=num_gaps * len(CAUSES))
        causes: Ints = sums.reshape(num_gaps, len(CAUSES)).argmax(axis=1)
        return causes

    def lost_us(self) -> Floats:
        """The part of each gap that waits caused."""
        return _sums(self.parts.gap, self.parts.length_us * self.parts.is_lost, len(self.gaps))

    def unrecorded_us(self) -> tuple[float, float]:
        """Time in waits for work that was not recorded: before the first work of a device, and after that."""
        mine = self.parts.cause == code_of("unrecorded_work")
        at_begin = self.gaps.before[self.parts.gap] == NONE
        length_us = self.parts.length_us
        return float(length_us[mine & at_begin].sum()), float(length_us[mine & ~at_begin].sum())

    def waits_before_work(self) -> set[int]:
        """The waits of the first of ``unrecorded_us``, with the restart after them."""
        parts = self.parts
        first = (parts.cause == code_of("unrecorded_work")) & (self.gaps.before[parts.gap] == NONE)
        return set(parts.wait[first].tolist())

    def by_cause_us(self, rows: Mask | None = None) -> dict[Cause, float]:
        """Idle time of (some) parts by cause; the causes add up to all of it."""
        chosen = np.ones(len(self.parts), np.bool_) if rows is None else rows
        sums = _sums(self.parts.cause[chosen], self.parts.length_us[chosen], len(CAUSES))
        return dict(zip(CAUSES, map(float, sums), strict=True))


def find_idle(
    trace: Trace,
    waits: Waits,
    window: Window | None = None,
    captures: Captures | None = None,
    steps: Steps | None = None,
) -> Idle:
    """Every gap of every device in the window (default: ``window_of(trace)``), in parts by cause."""
    window = window_of(trace) if window is None else window
    captures = find_captures(trace) if captures is None else captures
    busy = find_gaps(trace, window)
    launch = np.where(busy.gaps.after == NONE, NONE, at_rows(trace.call_of_activity, busy.gaps.after))
    parts = parts_of(trace, waits, captures, steps, busy.gaps, launch, _threads(trace, busy.gaps, launch))
    lost = parts.is_lost
    return Idle(
        busy=busy,
        launch=launch,
        parts=parts,
        lost_by_wait_us=_sums(parts.wait[lost], parts.length_us[lost], len(waits)),
    )


def _threads(trace: Trace, gaps: Gaps, launch: Ints) -> Threads:
    """The thread that ended each gap, and the one before it."""
    launched_by = trace.call_of_activity
    call = np.where(gaps.before == NONE, NONE, at_rows(launched_by, gaps.before))
    launched = before = np.where(call == NONE, NONE, at_rows(trace.calls.thread, call))
    after = np.where(launch == NONE, NONE, at_rows(trace.calls.thread, launch))
    # After the last work the program goes on in its main thread.
    before = np.where((gaps.after == NONE) & (call != NONE), main_thread(trace), before)
    after = np.where(gaps.after == NONE, launched, after)
    return Threads(after=after, before=np.where(before == after, NONE, before))


def _sums(keys: Ints, values: Floats, num_keys: int) -> Floats:
    """The sum of the values of each key."""
    return np.bincount(keys, weights=values, minlength=num_keys).astype(np.float64)


MAX_ORPHANS = 0.05
"""Of the GPU's work this share may lack its launch, as at the edges of a trace, before idle times are uncertain."""
NO_SITE = CallSite(file="", line=0, function="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """One trace and, in one window of it, its waits, gaps, launches, steps and regions."""

    trace: Trace
    window: Window
    regions: Regions
    waits: Waits
    idle: Idle
    launches: Launches
    captures: Captures
    steps: Steps | None

    @property
    def has_gpu(self) -> bool:
        """Whether the trace tells what the GPU did."""
        return len(self.trace.activities) > 0

    @property
    def orphan_share(self) -> float:
        """How much of the GPU's work lacks its launch, of 1."""
        launcher = self.trace.call_of_activity
        return float((launcher == NONE).mean()) if len(launcher) else 0.0

    def site_of(self, wait: int) -> CallSite:
        """The line of a wait, empty without stacks."""
        number = int(self.waits.site[wait])
        return NO_SITE if number == NONE else self.waits.sites[number]

    def op_of(self, wait: int) -> str:
        """The operators of a wait, the outermost and the innermost, empty outside of any."""
        outer, inner = int(self.waits.outer_op[wait]), int(self.waits.inner_op[wait])
        if outer == NONE:
            return ""
        names = self.trace.names
        return names[outer] if outer == inner else f"{names[outer]} > {names[inner]}"


def examine(trace: Trace) -> Findings:
    """Finds waits, gaps, launches and regions in the window that the trace marks, or in all of it."""
    window = window_of(trace)
    regions = Regions(trace)
    waits = find_waits(trace, regions, window)
    captures, steps = find_captures(trace), find_steps(trace, window)
    return Findings(
        trace=trace,
        window=window,
        regions=regions,
        waits=waits,
        idle=find_idle(trace, waits, window, captures, steps),
        launches=find_launches(trace, regions, window, captures),
        captures=captures,
        steps=steps,
    )
