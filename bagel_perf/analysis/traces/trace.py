"""A trace: its tables, and what is derived from them once and asked for often."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from bagel_perf.analysis.traces.apis import apis_of
from bagel_perf.analysis.traces.columns import grouped
from bagel_perf.analysis.traces.nesting import Nest
from bagel_perf.analysis.traces.table import (
    NONE,
    Activities,
    Calls,
    CallSite,
    Frames,
    Ints,
    Mask,
    Spans,
    Syncs,
)

TraceFormat: TypeAlias = Literal["kineto", "nsys"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a trace comes from. ``versions`` are the recorder's own words, ``device_names`` by device number.

    ``num_unnamed_calls`` calls have no name, so nobody can say what they did; ``num_unreadable_activities`` activities
    of the GPU had to be left out.
    """

    format: TraceFormat
    file: str
    num_bytes: int
    num_events: int
    versions: dict[str, str] = field(default_factory=dict)
    device_names: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    num_unnamed_calls: int = 0
    num_unreadable_activities: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """All tables of one trace.

    ``ops`` are framework operators, ``annotations`` are NVTX ranges and user annotations, ``frames`` Python functions,
    ``markers`` the harness's notes of waits (``bagel_perf.wait N``, N in ``marker_numbers``), ``overhead`` the
    profiler's own work. ``num_stream_waits`` counts waits of one stream for another, which hold no host thread.
    """

    source: Source
    calls: Calls
    activities: Activities
    syncs: Syncs
    ops: Spans
    annotations: Spans
    frames: Frames
    markers: Spans
    marker_numbers: Ints
    overhead: Spans
    threads: tuple[str, ...]
    names: tuple[str, ...]
    sites: tuple[CallSite, ...] = ()
    num_stream_waits: int = 0

    @property
    def has_stacks(self) -> bool:
        """Whether waits can be traced to lines of Python."""
        return len(self.frames) > 0 or len(self.sites) > 0

    @cached_property
    def end_us(self) -> float:
        """The end of the last event of any table."""
        tables = (self.calls, self.activities, self.syncs, self.ops, self.annotations)
        return max((float(table.end_us.max()) for table in tables if len(table)), default=0.0)

    @cached_property
    def apis(self) -> Ints:
        """The group (``apis.Api``) of each call."""
        return apis_of(self.calls.name, self.names)

    @cached_property
    def op_nest(self) -> Nest:
        """The operators, ready to be asked which of them enclose a moment."""
        return Nest.of(self.ops)

    @cached_property
    def frame_nest(self) -> Nest:
        """The frames of Python, ready to be asked which of them enclose a moment."""
        return Nest.of(self.frames)

    @cached_property
    def call_of_activity(self) -> Ints:
        """For each activity the row of the call that launched it, NONE where the trace does not have it."""
        return _first_with(self.calls.correlation, self.activities.correlation)

    @cached_property
    def activity_of_call(self) -> Ints:
        """For each call the row of the first activity that it launched, NONE where there is none."""
        return _first_with(self.activities.correlation, self.calls.correlation)

    def inside_another(self, chosen: Mask) -> Mask:
        """Which of the chosen calls lie inside an earlier one of them on their thread."""
        inside = np.zeros(len(self.calls), np.bool_)
        numbers = np.flatnonzero(chosen)
        for _, places in grouped(self.calls.thread[numbers]):
            rows = numbers[places]
            reach_us = np.maximum.accumulate(self.calls.end_us[rows])
            inside[rows[1:]] = self.calls.end_us[rows[1:]] <= reach_us[:-1]
        return inside


def _first_with(haystack: Ints, needles: Ints) -> Ints:
    known = np.flatnonzero(haystack >= 0)
    order = known[np.argsort(haystack[known], kind="stable")]
    if not len(order):
        return np.full(len(needles), NONE)
    values = haystack[order]
    place = np.minimum(np.searchsorted(values, needles), len(order) - 1)
    return np.where((values[place] == needles) & (needles >= 0), order[place], NONE)
