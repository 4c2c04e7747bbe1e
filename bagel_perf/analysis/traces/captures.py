"""Graphs being captured: what is launched meanwhile goes into the graph and not to the device."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from bagel_perf.analysis.traces.apis import Api, plain_name
from bagel_perf.analysis.traces.columns import grouped
from bagel_perf.analysis.traces.table import NONE, Ints, Mask
from bagel_perf.analysis.traces.trace import Trace

_BEGIN = re.compile(r"(cuda|hip|cu)StreamBeginCapture\w*")
_END = re.compile(r"(cuda|hip|cu)StreamEndCapture\w*")
_STEP = re.compile(r"(cuda|hip|cu)Graph(Instantiate|Upload|ExecUpdate|ExecCreate)\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Captures:
    """Calls that begin captures and those that end them, pair by pair; ``steps`` make graphs of what was captured.

    ``is_captured`` says of every call whether it went into a graph, and ``is_shared`` of every capture whether threads
    other than its own launched into it. ``num_open`` captures do not end in the trace.
    """

    begins: Ints
    ends: Ints
    steps: Ints
    is_captured: Mask
    is_shared: Mask
    num_open: int


def find_captures(trace: Trace) -> Captures:
    """The captures of all threads."""
    begins, ends = rows_named(trace, _BEGIN), rows_named(trace, _END)
    is_captured = np.zeros(len(trace.calls), np.bool_)
    firsts, lasts = [], []
    ends_of = dict(grouped(trace.calls.thread[ends]))
    for thread, places in grouped(trace.calls.thread[begins]):
        mine, its_ends = begins[places], ends[ends_of.get(thread, np.empty(0, np.int64))]
        after = np.searchsorted(trace.calls.start_us[its_ends], trace.calls.start_us[mine])
        mine, after = mine[after < len(its_ends)], after[after < len(its_ends)]
        first, last = mine, its_ends[after]
        firsts.append(first)
        lasts.append(last)
    pairs = np.concatenate([np.empty(0, np.int64), *firsts]), np.concatenate([np.empty(0, np.int64), *lasts])
    is_shared = np.zeros(len(pairs[0]), np.bool_)
    gives_none = trace.activity_of_call == NONE
    can_be_foreign = gives_none & np.isin(trace.apis, (Api.LAUNCH, Api.COPY_ASYNC))
    if len(is_shared):  # a trace without captures is not searched
        can_be_foreign &= ~has_inner(trace, gives_none)
    for number, (begin, end) in enumerate(zip(*(column.tolist() for column in pairs), strict=True)):
        inside = slice(begin + 1, int(np.searchsorted(trace.calls.start_us, trace.calls.start_us[end])))
        own = trace.calls.thread[inside] == trace.calls.thread[begin]
        foreign = can_be_foreign[inside] & ~own
        is_captured[inside] |= (own & gives_none[inside]) | foreign
        is_shared[number] = foreign.any()
    return Captures(
        begins=pairs[0],
        ends=pairs[1],
        steps=rows_named(trace, _STEP),
        is_captured=is_captured,
        is_shared=is_shared,
        num_open=len(begins) - len(pairs[0]),
    )


def has_inner(trace: Trace, gives_none: Mask) -> Mask:
    """Which calls have another one inside, of their thread, that gave work."""
    found = np.zeros(len(gives_none), np.bool_)
    start_us, end_us = trace.calls.start_us, trace.calls.end_us
    for _, rows in grouped(trace.calls.thread):
        giving = rows[~gives_none[rows]]
        if len(giving):
            place = np.minimum(np.searchsorted(start_us[giving], start_us[rows]), len(giving) - 1)
            inner = giving[place]
            found[rows] = (start_us[inner] >= start_us[rows]) & (end_us[inner] <= end_us[rows]) & (inner != rows)
    return found


def rows_named(trace: Trace, pattern: re.Pattern[str]) -> Ints:
    """The calls whose name, without its version, matches."""
    matches = np.zeros(len(trace.names), np.bool_)
    for name in np.flatnonzero(np.bincount(trace.calls.name, minlength=len(trace.names))):
        matches[name] = pattern.fullmatch(plain_name(trace.names[int(name)])) is not None
    return np.flatnonzero(matches[trace.calls.name])
