"""The stretch of a trace that is looked at, unions of intervals in it, and what the profiler itself left there."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from bagel_perf.traces.tables import NONE, STEP_PREFIX, WINDOW_NAME, Floats, Ints
from bagel_perf.traces.trace import WAITS, Api, Trace


def union(start_us: Floats, end_us: Floats) -> tuple[Floats, Floats]:
    """The union of intervals as disjoint ones, rising."""
    if not len(start_us):
        return np.empty(0), np.empty(0)
    order = np.argsort(start_us, kind="stable")
    start_us, reach_us = start_us[order], np.maximum.accumulate(end_us[order])
    opens = np.concatenate([[True], start_us[1:] > reach_us[:-1]])
    closes = np.concatenate([opens[1:], [True]])
    return start_us[opens], reach_us[closes]


def covered_us(start_us: Floats, end_us: Floats, from_us: Floats, to_us: Floats) -> Floats:
    """How much of each stretch a union of intervals covers."""
    if not len(start_us):
        return np.zeros(len(from_us))
    edges_us = np.column_stack([start_us, end_us]).reshape(-1)
    lengths_us = end_us - start_us
    so_far_us = np.column_stack([np.cumsum(lengths_us) - lengths_us, np.cumsum(lengths_us)]).reshape(-1)
    return np.interp(to_us, edges_us, so_far_us) - np.interp(from_us, edges_us, so_far_us)


def merged(start_us: Floats, end_us: Floats, max_segments: int) -> Ints:
    """The group of each of some disjoint, rising intervals when the narrowest gaps between them are closed.

    There are at most ``max_segments`` groups, numbered from 0.
    """
    if len(start_us) <= max_segments:
        return np.arange(len(start_us))
    gap_us = start_us[1:] - end_us[:-1]
    kept = np.zeros(len(gap_us), np.int64)
    kept[largest(gap_us, max_segments - 1)] = 1
    return np.concatenate([[0], np.cumsum(kept)])


def cut(start_us: Floats, end_us: Floats, edges_us: Floats) -> tuple[Ints, Floats, Floats]:
    """Splits intervals at those of the rising ``edges_us`` that lie inside them: row, start and end of each piece."""
    first = np.searchsorted(edges_us, start_us, side="right")
    num_inside = np.maximum(np.searchsorted(edges_us, end_us, side="left") - first, 0)
    row = np.repeat(np.arange(len(start_us)), num_inside + 1)
    last = np.cumsum(num_inside + 1) - 1
    is_last = np.zeros(len(row), np.bool_)
    is_last[last] = True
    ordinal = np.arange(len(row)) - np.repeat(last - num_inside, num_inside + 1)
    piece_end_us = end_us[row].astype(np.float64)
    inner = np.flatnonzero(~is_last)
    piece_end_us[inner] = edges_us[first[row[inner]] + ordinal[inner]]
    piece_start_us = np.concatenate([start_us[:1], piece_end_us[:-1]])
    piece_start_us[ordinal == 0] = start_us
    return row, piece_start_us, piece_end_us


def holding(start_us: Floats, end_us: Floats, moments_us: Floats) -> Ints:
    """The interval of disjoint, rising ones around each moment, NONE where none is."""
    if not len(start_us):
        return np.full(len(moments_us), NONE)
    place = np.searchsorted(start_us, moments_us, side="right") - 1
    return np.where((place >= 0) & (end_us[np.maximum(place, 0)] > moments_us), place, NONE)


def largest(values: Floats, number: int) -> Ints:
    """The places of the largest values, largest first, the earlier one first where they are equal."""
    places = np.arange(len(values))
    if 0 < number < len(values):
        least = np.partition(values, len(values) - number)[len(values) - number]
        places = np.flatnonzero(values >= least)
    found: Ints = places[np.argsort(-values[places], kind="stable")][:number]
    return found


_FRAME = re.compile(r"torch/(autograd/profiler|profiler/profiler)\.py\(\d+\): ")


def profiler_sync(trace: Trace) -> int:
    """The row of the call with which torch.profiler waits for the GPU before it stops, NONE if there is none.

    It is the last wait for the device, with no launch after it and no operator around it; where frames of Python were
    recorded, it stands in one of the profiler.
    """
    calls, apis = trace.calls, trace.apis
    telling = np.flatnonzero(np.isin(apis, (*WAITS, Api.LAUNCH, Api.GRAPH_LAUNCH, Api.COPY_ASYNC)))
    if trace.source.format != "kineto" or not len(trace.activities) or not len(telling):
        return NONE
    last = int(telling[-1])
    middle_us = np.array([(calls.start_us[last] + calls.end_us[last]) / 2])
    thread = calls.thread[[last]]
    if apis[last] != Api.WAIT_DEVICE or trace.op_nest.innermost(middle_us, thread)[0] != NONE:
        return NONE
    if len(trace.frames):
        rows = trace.frame_nest.enclosing(middle_us, thread)[0]
        names = [trace.names[int(trace.frames.name[row])] for row in rows if row != NONE]
        return last if any(_FRAME.match(name) for name in names) else NONE
    return last


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
