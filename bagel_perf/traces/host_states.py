"""What a host thread was doing at any time, as far as that decides why a device had nothing to do."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from bagel_perf.records.traces import Cause
from bagel_perf.traces.gaps import Threads, code_of
from bagel_perf.traces.launches import Captures, rows_named
from bagel_perf.traces.tables import NONE, Floats, Ints, Mask, at_rows, grouped
from bagel_perf.traces.trace import Api, Trace
from bagel_perf.traces.waits import Waits
from bagel_perf.traces.window import holding, union

# Between two recorded moments of a thread (an operator or call begins or ends) this much Python is part of issuing;
# a longer silence is something else, unless a call of the driver or an operator that calls it fills it.
MAX_SILENCE_US = 100.0
# A thread that called the device for no longer than this was issuing; whatever fills more is work of its own.
MAX_CALL_FREE_US = 1000.0
# A call that gives no work and takes longer is set-up; one that does give work takes 5 to 50 us and is by this.
MIN_SETUP_US = 50.0
MIN_SLOW_CALL_US = 1000.0
MIN_LOADING = 0.9
DATA_LOADER = "enumerate(DataLoader)"
_QUERY = re.compile(r"(cuda|hip|cu)(Event|Stream)Query\w*")
_NO_SETUP = re.compile(r"(cuda|hip|cu)(Event(Record|Query)|StreamWaitEvent|StreamQuery)\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretches:
    """Disjoint, rising stretches of a thread; ``row`` is the call, wait or annotation that each is."""

    start_us: Floats
    end_us: Floats
    row: Ints

    @classmethod
    def of(cls, start_us: Floats, end_us: Floats, row: Ints) -> Stretches:
        """Those of some rows; of two that overlap the earlier one counts until its end."""
        order = np.argsort(start_us, kind="stable")
        start_us, end_us, row = start_us[order], end_us[order], row[order]
        reach_us = np.concatenate([[-np.inf], np.maximum.accumulate(end_us)])[:-1]
        start_us = np.maximum(start_us, reach_us)
        kept = end_us > start_us
        return cls(start_us=start_us[kept], end_us=end_us[kept], row=row[kept])

    def at(self, moments_us: Floats) -> Ints:
        """The row at each moment, NONE in none."""
        place = holding(self.start_us, self.end_us, moments_us)
        return np.where(place == NONE, NONE, at_rows(self.row, place))

    @property
    def edges_us(self) -> Floats:
        """Where they begin and end."""
        return np.concatenate([self.start_us, self.end_us])


NOWHERE = Stretches(start_us=np.empty(0), end_us=np.empty(0), row=np.empty(0, np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStates:
    """The states of one thread, each as stretches; where several hold, the first of ``at`` counts."""

    captures: Stretches
    waits: Stretches
    setups: Stretches
    loaders: Stretches
    issuing: Stretches
    recorded: Stretches
    """Only where one thread hands over to another."""
    edges_us: Floats
    """Every moment at which the state may change, rising."""

    @classmethod
    def of(cls, *, recorded: Stretches, **states: Stretches) -> HostStates:
        """The states with the moments at which they change."""
        edges_us = np.concatenate([recorded.edges_us, *(each.edges_us for each in states.values())])
        return cls(recorded=recorded, edges_us=np.unique(edges_us), **states)

    def is_known(self, moments_us: Floats) -> Mask:
        """Whether anything of the thread is around each moment, or so near that it was issuing."""
        known = np.zeros(len(moments_us), np.bool_)
        for each in (self.recorded, self.issuing, self.loaders, self.captures, self.setups, self.waits):
            known |= each.at(moments_us) != NONE
        return known

    def at(self, moments_us: Floats) -> tuple[Ints, Ints]:
        """The cause that each moment has by its state, a number into ``CAUSES``, and the row of a wait or call."""
        cause = np.full(len(moments_us), code_of("cpu_elsewhere"))
        row = np.full(len(moments_us), NONE)
        in_issuing = self.issuing.at(moments_us) != NONE
        cause[in_issuing] = code_of("launch_bound")
        states: tuple[tuple[Cause, Stretches], ...] = (
            ("data_loader", self.loaders),
            ("one_time_setup", self.setups),
            ("host_sync", self.waits),
            ("graph_capture", self.captures),
        )
        for name, stretches in states:
            found = stretches.at(moments_us)
            inside = found != NONE
            cause[inside] = code_of(name)
            row[inside] = found[inside]
        return cause, row


def states_of_threads(trace: Trace, waits: Waits, captures: Captures, threads: Threads) -> dict[int, HostStates]:
    """The states of the threads of some gaps."""
    handing = threads.before != NONE
    handed = {*threads.after[handing].tolist(), *threads.before[handing].tolist()}
    calls_of, waits_of, ops_of = (dict(grouped(table.thread)) for table in (trace.calls, waits, trace.ops))
    is_loader = np.array([name.startswith(DATA_LOADER) for name in trace.names], np.bool_)
    loaders = np.flatnonzero(is_loader[trace.annotations.name])
    loaders_of = {thread: loaders[rows] for thread, rows in grouped(trace.annotations.thread[loaders])}
    setups = _setups(trace, captures)
    setups_of = {thread: setups[rows] for thread, rows in grouped(trace.calls.thread[setups])}
    asking = np.zeros(len(trace.calls), np.bool_)
    asking[rows_named(trace, _QUERY)] = True
    nothing = np.empty(0, np.int64)
    found = {}
    for thread in np.union1d(threads.after, threads.before).tolist():
        calls, mine, loading, slow = (each.get(thread, nothing) for each in (calls_of, waits_of, loaders_of, setups_of))
        ops = ops_of.get(thread, nothing)
        found[thread] = HostStates.of(
            captures=_capturing(trace, captures, thread),
            waits=Stretches.of(waits.start_us[mine], waits.end_us[mine], mine),
            setups=Stretches.of(trace.calls.start_us[slow], trace.calls.end_us[slow], slow),
            loaders=Stretches.of(trace.annotations.start_us[loading], trace.annotations.end_us[loading], loading),
            recorded=_recorded(trace, thread, ops, calls) if thread in handed else NOWHERE,
            issuing=_issuing(trace, thread, ops, calls[~asking[calls]]),
        )
    found.pop(NONE, None)
    return found


def _capturing(trace: Trace, captures: Captures, thread: int) -> Stretches:
    """From the begin to the end of each capture of a thread, and the calls that make graphs of them."""
    # While one thread captures, others that launch do so into the graph: backward has a thread of its own.
    mine = captures.is_shared | (trace.calls.thread[captures.begins] == thread)
    steps = captures.steps[trace.calls.thread[captures.steps] == thread]
    rows = np.concatenate([captures.begins[mine], steps])
    end_us = trace.calls.end_us[np.concatenate([captures.ends[mine], steps])]
    return Stretches.of(trace.calls.start_us[rows], end_us, rows)


def _setups(trace: Trace, captures: Captures) -> Ints:
    """Calls that give no work and take long, and those that take so long that something was loaded first."""
    length_us = trace.calls.end_us - trace.calls.start_us
    rows = np.flatnonzero((length_us >= MIN_SETUP_US) & ~captures.is_captured)
    apis = trace.apis[rows]
    no_setup = np.isin(rows, rows_named(trace, _NO_SETUP))
    gives_none = np.isin(apis, (Api.OTHER, Api.ALLOCATOR)) & (trace.activity_of_call[rows] == NONE) & ~no_setup
    can_be_slow = np.isin(apis, (Api.LAUNCH, Api.OTHER, Api.ALLOCATOR))
    # What loads something first begins its work at the end; a launch that waits for its work is none of that.
    work = trace.activity_of_call[rows]
    begun_us = np.where(work == NONE, np.inf, at_rows(trace.activities.start_us, work)) - trace.calls.start_us[rows]
    can_be_slow &= begun_us >= MIN_LOADING * length_us[rows]
    chosen: Ints = rows[gives_none | (can_be_slow & (length_us[rows] >= MIN_SLOW_CALL_US))]
    return chosen


def _recorded(trace: Trace, thread: int, ops: Ints, calls: Ints) -> Stretches:
    """Where anything of a thread is recorded: operators and calls, annotations, functions; short silences included."""
    start_us, end_us = union(
        np.concatenate([trace.ops.start_us[ops], trace.calls.start_us[calls]]),
        np.concatenate([trace.ops.end_us[ops], trace.calls.end_us[calls]]) + MAX_SILENCE_US,
    )
    named = [table.where(table.thread == thread) for table in (trace.annotations, trace.frames)]
    start_us, end_us = union(
        np.concatenate([start_us, *(table.start_us for table in named)]),
        np.concatenate([end_us - MAX_SILENCE_US, *(table.end_us for table in named)]),
    )
    return Stretches(start_us=start_us, end_us=end_us, row=np.arange(len(start_us)))


def _issuing(trace: Trace, thread: int, ops: Ints, calls: Ints) -> Stretches:
    """Stretches in which the thread gave work to the device, or was on the way to it."""
    call_start_us, call_end_us = trace.calls.start_us[calls], trace.calls.end_us[calls]
    spans = (trace.ops.start_us[ops], trace.ops.end_us[ops], call_start_us, call_end_us)
    moments_us = np.sort(np.concatenate(spans))
    moments_us = moments_us[np.diff(moments_us, prepend=-np.inf) > 0]
    if len(moments_us) < 2:
        return NOWHERE
    begin_us, end_us = moments_us[:-1], moments_us[1:]
    reach_us = np.maximum.accumulate(call_end_us)
    is_issuing = end_us - begin_us <= MAX_SILENCE_US
    silent = np.flatnonzero(~is_issuing)
    middle_us = (begin_us[silent] + end_us[silent]) / 2
    in_call = _covered(call_start_us, reach_us, middle_us)
    op = trace.op_nest.innermost(middle_us, np.full(len(silent), thread))
    # An operator that calls nothing computes on the CPU.
    begun = np.searchsorted(call_start_us, at_rows(trace.ops.start_us, op))
    ended = np.searchsorted(call_start_us, at_rows(trace.ops.end_us, op))
    is_issuing[silent] = in_call | ((op != NONE) & (ended > begun))
    for first, last in _call_free(call_start_us, reach_us, moments_us):
        is_issuing[first:last] = False
    turns = np.flatnonzero(np.diff(is_issuing.astype(np.int8), prepend=0, append=0))
    start_us, stop_us = begin_us[turns[::2]], end_us[turns[1::2] - 1]
    return Stretches(start_us=start_us, end_us=stop_us, row=np.arange(len(start_us)))


def _covered(start_us: Floats, reach_us: Floats, moments_us: Floats) -> Mask:
    """Which moments lie in one of some intervals, whose ends so far are ``reach_us``."""
    if not len(start_us):
        return np.zeros(len(moments_us), np.bool_)
    place = np.searchsorted(start_us, moments_us, side="right") - 1
    covered: Mask = (place >= 0) & (reach_us[np.maximum(place, 0)] >= moments_us)
    return covered


def _call_free(start_us: Floats, reach_us: Floats, moments_us: Floats) -> list[tuple[int, int]]:
    """The long stretches without calls as ranges of the recorded moments of the thread, which bound them."""
    begins_us, ends_us = np.concatenate([moments_us[:1], reach_us]), np.concatenate([start_us, moments_us[-1:]])
    is_long = ends_us - begins_us > MAX_CALL_FREE_US
    ranges = np.searchsorted(moments_us, np.column_stack([begins_us[is_long], ends_us[is_long]]))
    return [(int(first), int(last)) for first, last in ranges]
