"""The calls that give the device work: how many, from which region, and those that hide others.

While a graph is captured, what is launched goes into the graph and not to the device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from bagel_perf.traces.regions import Regions
from bagel_perf.traces.tables import GRAPH, KERNEL, NONE, Ints, Mask, grouped
from bagel_perf.traces.trace import Api, Trace, plain_name
from bagel_perf.traces.window import Window

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


# A replay of a graph of which nothing was recorded is one whose kernels are missing; a few are cut by the trace's ends.
MAX_EMPTY_REPLAYS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Launches:
    """``region`` is the path of each call, 0 for calls that give no work; ``is_launch`` those that launch kernels.

    A launch inside another one (a driver call in a runtime call) is no launch of its own, and neither is one that is
    captured into a graph. Of ``num_without_work`` launches of single kernels the device recorded nothing.
    """

    region: Ints
    is_launch: Mask
    num_graph_launches: int
    num_graph_activities: int
    num_empty_replays: int
    num_captured: int
    num_without_work: int

    @property
    def hides_kernels(self) -> bool:
        """Whether replays of graphs ran work that the trace does not have."""
        return self.num_empty_replays > MAX_EMPTY_REPLAYS * self.num_graph_launches


def find_launches(trace: Trace, regions: Regions, window: Window, captures: Captures) -> Launches:
    """The launches that begin in the window, and the region of every call that gives the device work."""
    calls, apis = trace.calls, trace.apis
    launching = np.isin(apis, (Api.LAUNCH, Api.GRAPH_LAUNCH))
    outermost = launching & ~trace.inside_another(launching)
    outer = outermost & ~captures.is_captured
    inside = (calls.start_us >= window.start_us) & (calls.start_us <= window.end_us)
    giving = np.flatnonzero(outer | (trace.activity_of_call != NONE))
    region = np.zeros(len(calls), np.int64)
    region[giving] = regions.at((calls.start_us[giving] + calls.end_us[giving]) / 2, calls.thread[giving])
    captured = outermost & captures.is_captured & inside
    single = outer & inside & (apis == Api.LAUNCH)
    replays = outer & inside & (apis == Api.GRAPH_LAUNCH)
    launched_by = trace.call_of_activity[trace.call_of_activity != NONE]
    return Launches(
        region=region,
        is_launch=outer & inside,
        num_graph_launches=int(replays.sum()),
        num_graph_activities=int(replays[launched_by].sum()),
        num_empty_replays=int((replays & (trace.activity_of_call == NONE)).sum()) if len(trace.activities) else 0,
        num_captured=int(captured.sum()),
        num_without_work=_without_work(trace, single) if len(trace.activities) else 0,
    )


def _without_work(trace: Trace, launches: Mask) -> int:
    """How many launches gave no work, though a call inside them may have; those by which the trace ends count not.

    A driver call in a runtime call has the number of the work, where the runtime call has another one.
    """
    gives_none = trace.activity_of_call == NONE
    giving = np.flatnonzero(~gives_none)
    empty = launches & gives_none & ~has_inner(trace, gives_none)
    if len(giving):
        empty &= trace.calls.start_us <= trace.calls.start_us[giving[-1]]
    return int(empty.sum())


def num_launches(trace: Trace, launches: Launches, window: Window) -> int:
    """How many launches there were; kernels stand in for them where the trace has no calls."""
    if len(trace.calls):
        return int(launches.is_launch.sum())
    activities = trace.activities
    inside = (activities.start_us >= window.start_us) & (activities.start_us <= window.end_us)
    return int((inside & np.isin(activities.kind, (KERNEL, GRAPH))).sum())
