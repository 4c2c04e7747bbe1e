"""The stretch of a trace that is looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bagel_perf.analysis.traces.profiler import profiler_sync
from bagel_perf.analysis.traces.table import NONE, STEP_PREFIX, WINDOW_NAME, Floats
from bagel_perf.analysis.traces.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From ``start_us`` to ``end_us``; ``is_marked`` if the program said so by an annotation."""

    start_us: float
    end_us: float
    is_marked: bool = False

    @property
    def length_us(self) -> float:
        """How long it is."""
        return self.end_us - self.start_us


def window_of(trace: Trace) -> Window:
    """From the first to the last annotation ``bagel_perf.window``, else from the first to the last event.

    Device events are calls of the runtime or driver and what the GPU did. Operators and annotations of the threads that
    made the calls count as well: what the host does before its first launch keeps the GPU waiting. So do the profiler's
    steps. Without device events, all operators count.
    """
    marked = np.array([name == WINDOW_NAME for name in trace.names], np.bool_)[trace.annotations.name]
    if marked.any():
        spans = trace.annotations.where(marked)
        return Window(start_us=float(spans.start_us[0]), end_us=float(spans.end_us.max()), is_marked=True)
    by_profiler = profiler_sync(trace)
    calls = np.arange(len(trace.calls)) != by_profiler
    syncs = np.ones(len(trace.syncs), np.bool_)
    if by_profiler != NONE:
        syncs = trace.syncs.correlation != trace.calls.correlation[by_profiler]
    device_tables = (
        (trace.calls.start_us[calls], trace.calls.end_us[calls]),
        (trace.activities.start_us, trace.activities.end_us),
        (trace.syncs.start_us[syncs], trace.syncs.end_us[syncs]),
    )
    tables = [table for table in device_tables if len(table[0])]
    if tables:
        tables += _of_host(trace)
    if not tables and len(trace.ops):
        tables = [(trace.ops.start_us, trace.ops.end_us)]
    starts = [float(start_us[0]) for start_us, _ in tables]
    ends = [float(end_us.max()) for _, end_us in tables]
    return Window(start_us=min(starts, default=0.0), end_us=max(ends, default=0.0))


def _of_host(trace: Trace) -> list[tuple[Floats, Floats]]:
    """Begins and ends of what the threads that call the device recorded, and of the profiler's steps."""
    calls = np.bincount(trace.calls.thread, minlength=len(trace.threads)) > 0
    is_step = np.array([name.startswith(STEP_PREFIX) for name in trace.names], np.bool_)
    found = [
        trace.ops.where(calls[trace.ops.thread]),
        trace.annotations.where(calls[trace.annotations.thread] | is_step[trace.annotations.name]),
    ]
    return [(table.start_us, table.end_us) for table in found if len(table)]
