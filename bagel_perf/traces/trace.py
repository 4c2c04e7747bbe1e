"""A trace: its tables, and what is derived from them once and asked for often.

What the calls of the CUDA and HIP runtime and driver do to the host is told by their names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from bagel_perf.traces.nesting import Nest
from bagel_perf.traces.tables import NONE, Activities, Calls, CallSite, Frames, Ints, Mask, Spans, Syncs, grouped


class Api(IntEnum):
    """Groups of calls. The first four hold the calling thread until device work is done."""

    WAIT_DEVICE = 0
    WAIT_STREAM = 1
    WAIT_EVENT = 2
    WAIT_COPY = 3
    COPY_ASYNC = 4
    LAUNCH = 5
    GRAPH_LAUNCH = 6
    ALLOCATOR = 7
    OTHER = 8


WAITS = (Api.WAIT_DEVICE, Api.WAIT_STREAM, Api.WAIT_EVENT, Api.WAIT_COPY)

_VERSION = re.compile(r"(_v\d+|_ptsz|_ptds|_spt)+$")
_RULES: tuple[tuple[Api, re.Pattern[str]], ...] = (
    (Api.WAIT_DEVICE, re.compile(r"(cuda|hip)(Device|Thread)Synchronize|(cu|hip)CtxSynchronize")),
    (Api.WAIT_STREAM, re.compile(r"(cuda|hip|cu)StreamSynchronize")),
    (Api.WAIT_EVENT, re.compile(r"(cuda|hip|cu)EventSynchronize")),
    (Api.COPY_ASYNC, re.compile(r"(cuda|hip|cu)Memcpy\w*Async")),
    (Api.WAIT_COPY, re.compile(r"(cuda|hip|cu)Memcpy\w*")),
    (Api.GRAPH_LAUNCH, re.compile(r"(cuda|hip|cu)GraphLaunch")),
    (Api.LAUNCH, re.compile(r"(cuda|cu)Launch(?!Host)\w*|hip(Ext|Drv|Hcc)?(Module)?Launch(?!Host)\w*")),
    (
        Api.ALLOCATOR,
        re.compile(
            r"(?!\w*Async)((cuda|hip)(ExtMalloc|Malloc|Free|Host(Alloc|Malloc|Free|Register|Unregister))\w*"
            r"|(cu|hip)Mem(Alloc|Free|Host|Create|Release|Map|Unmap|SetAccess|AddressReserve|AddressFree)\w*)"
        ),
    ),
)


def plain_name(name: str) -> str:
    """The name of a call without the version that Nsight Systems and the driver append."""
    return _VERSION.sub("", name)


def api_of(name: str) -> Api:
    """The group of a call."""
    plain = plain_name(name)
    return next((api for api, pattern in _RULES if pattern.fullmatch(plain)), Api.OTHER)


def apis_of(name: Ints, names: Sequence[str]) -> Ints:
    """The group of each call of a table, whose ``name`` are numbers into ``names``."""
    groups = np.full(len(names), Api.OTHER, np.int64)
    for each in np.flatnonzero(np.bincount(name, minlength=len(names))):
        groups[each] = api_of(names[int(each)])
    return groups[name]


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
    ``markers`` our own notes of waits (``bagel_perf.wait N``, N in ``marker_numbers``), ``overhead`` the
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
