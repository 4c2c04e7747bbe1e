"""Splits gaps at the moments at which their cause changes.

What follows a wait until the device has work again is the wait's as well, as long as the host issues.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from bagel_perf.records.traces import Cause
from bagel_perf.traces.gaps import Gaps, Parts, Threads, code_of
from bagel_perf.traces.host_states import HostStates, states_of_threads
from bagel_perf.traces.launches import Captures, rows_named
from bagel_perf.traces.regions import Steps
from bagel_perf.traces.tables import NONE, Floats, Ints, Mask, at_rows, grouped
from bagel_perf.traces.trace import Api, Trace
from bagel_perf.traces.waits import Waits
from bagel_perf.traces.window import covered_us, cut, union

# Clocks of host and device disagree by about this much.
CLOCK_SKEW_US = 2.0
# A wait that returned this long before the device ran dry left no time to launch anything: a launch takes 5 to 10 us.
RELAUNCH_US = 10.0

_ISSUING: tuple[Cause, ...] = ("launch_bound", "launch_overhead")
_HELD: tuple[Cause, ...] = ("host_sync", "unrecorded_work")


def with_restarts(trace: Trace, waits: Waits, gaps: Gaps, launch: Ints, parts: Parts) -> Parts:
    """The parts in which the host issued right after a wait have that wait as their cause.

    That takes a device which ran dry in the wait, or right after it, and a host that did nothing else in between.
    """
    if not len(parts):
        return parts
    just_before = _just_before(trace, waits, gaps, launch)
    place = np.arange(len(parts))
    first = np.searchsorted(parts.gap, parts.gap)
    held = _last(_among(parts, _HELD) & (parts.wait != NONE), place)
    broken = _last(~_among(parts, (*_ISSUING, *_HELD, "queued")), place)
    opener = parts.wait[np.maximum(_first_held(parts, first), 0)]
    ran_dry = at_rows(waits.begun_us, opener) <= gaps.start_us[parts.gap] + CLOCK_SKEW_US
    after_held = (held >= first) & (held > broken) & ran_dry
    after_gap_began = (held < first) & (broken < first) & (just_before[parts.gap] != NONE)
    wait = np.where(after_held, parts.wait[np.maximum(held, 0)], just_before[parts.gap])
    is_restart = _among(parts, _ISSUING) & (after_held | after_gap_began)
    cause = np.where(is_restart, code_of("after_sync"), parts.cause)
    keeps = np.isin(cause, [code_of(each) for each in _HELD])
    return replace(parts, cause=cause, wait=np.where(is_restart, wait, np.where(keeps, parts.wait, NONE)))


def _among(parts: Parts, causes: tuple[Cause, ...]) -> Mask:
    found: Mask = np.isin(parts.cause, [code_of(cause) for cause in causes])
    return found


def _last(holds: Mask, place: Ints) -> Ints:
    """The last place up to each at which something holds, NONE before the first."""
    return np.maximum.accumulate(np.where(holds, place, NONE))


def _first_held(parts: Parts, first: Ints) -> Ints:
    """For each part the first part of its gap that is held in a wait; any other place where there is none."""
    held = np.flatnonzero(_among(parts, _HELD) & (parts.wait != NONE))
    if not len(held):
        return np.full(len(parts), NONE)
    found: Ints = held[np.minimum(np.searchsorted(held, first), len(held) - 1)]
    return found


def _just_before(trace: Trace, waits: Waits, gaps: Gaps, launch: Ints) -> Ints:
    """For each gap the wait that returned just before it opened, if nothing was launched between it and ``launch``."""
    found = np.full(len(gaps), NONE)
    known = np.flatnonzero(launch != NONE)
    launches = np.flatnonzero(trace.activity_of_call != NONE)
    launches_of = {thread: launches[places] for thread, places in grouped(trace.calls.thread[launches])}
    waits_of = dict(grouped(waits.thread))
    for thread, places in grouped(trace.calls.thread[launch[known]]):
        if thread in waits_of:
            rows = waits_of[thread][np.argsort(waits.end_us[waits_of[thread]], kind="stable")]
            mine = known[places]
            launched_us = trace.calls.start_us[launch[mine]]
            before_us = launch_before(trace.calls.start_us[launches_of[thread]], launched_us)
            place = np.searchsorted(waits.end_us[rows], gaps.start_us[mine], side="right") - 1
            wait = rows[np.maximum(place, 0)]
            ended_us = np.where(place >= 0, waits.end_us[wait], -np.inf)
            fits = (ended_us >= gaps.start_us[mine] - RELAUNCH_US) & (before_us < ended_us) & (ended_us <= launched_us)
            found[mine[fits]] = wait[fits]
    return found


def launch_before(launches_us: Floats, launched_us: Floats) -> Floats:
    """When the thread launched something the last time before each launch, minus infinity if never."""
    place = np.searchsorted(launches_us, launched_us, side="left") - 1
    return np.where(place >= 0, launches_us[np.maximum(place, 0)], -np.inf)


# What is on its way to an idle device for no longer than twice what is usual in this trace is not held up by anything.
USUAL_TIMES = 2.0
MIN_LATENCY_US, MAX_LATENCY_US = 10.0, 100.0
# A host that is held this long by devices on which nothing is recorded waits for something that was not recorded,
# unless it copies: this many bytes a microsecond pass through pageable memory at the least.
MIN_UNRECORDED_US = 1000.0
LEAST_BYTES_PER_US = 1000.0
NUM_STRETCHES = 20
RECURRING = 0.1
"""Of the steady steps: what more of them do is no set-up, if it is more than one."""
_STREAM_WAIT = re.compile(r"(cuda|hip|cu)StreamWaitEvent\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moments:
    """When each gap's launch began and returned, and when its work should have begun; infinite after the last work."""

    launching_us: Floats
    launched_us: Floats
    due_us: Floats


def parts_of(
    trace: Trace, waits: Waits, captures: Captures, steps: Steps | None, gaps: Gaps, launch: Ints, threads: Threads
) -> Parts:
    """The parts of all gaps; ``launch`` ended each and ``threads`` made it."""
    behind = _stream_waits(trace, gaps, launch)
    splitter = _Splitter(
        trace=trace,
        waits=waits,
        gaps=gaps,
        moments=_moments(trace, gaps, launch),
        behind=behind,
        states=states_of_threads(trace, waits, captures, threads),
    )
    num_threads = len(trace.threads) + 1
    pairs = grouped((threads.after + 1) * num_threads + threads.before + 1)
    found = [splitter.parts(rows, pair // num_threads - 1, pair % num_threads - 1) for pair, rows in pairs]
    parts = _joined(found)
    parts = replace(parts, cause=_recurring(trace, parts, steps))
    unrecorded = _is_unrecorded(trace, waits, parts, behind)
    parts = replace(parts, cause=np.where(unrecorded, code_of("unrecorded_work"), parts.cause))
    return _merged(with_restarts(trace, waits, gaps, launch, parts))


def _moments(trace: Trace, gaps: Gaps, launch: Ints) -> _Moments:
    """Work is due twice the time after its launch returned that is usual for its kind of launch on an idle device."""
    is_known = launch != NONE
    launching_us = np.where(is_known, at_rows(trace.calls.start_us, launch), np.inf)
    launched_us = np.where(is_known, at_rows(trace.calls.end_us, launch), np.inf)
    due_us = launched_us.copy()
    is_late = is_known & (launched_us > gaps.start_us)
    api = np.where(is_known, at_rows(trace.apis, launch), NONE)
    for each in np.unique(api[is_known]):
        mine = api == each
        latency_us = np.maximum(gaps.end_us - launched_us, 0.0)[mine & is_late]
        usual_us = float(np.median(latency_us)) if len(latency_us) else MIN_LATENCY_US
        due_us[mine] += np.clip(USUAL_TIMES * usual_us, MIN_LATENCY_US, MAX_LATENCY_US)
    return _Moments(launching_us=launching_us, launched_us=launched_us, due_us=due_us)


def _stream_waits(trace: Trace, gaps: Gaps, launch: Ints) -> Ints:
    """For each gap the call by which its launching thread let the stream of the launch wait for another, else NONE.

    That is the last such call before the launch, if its thread launched nothing in between.
    """
    found = np.full(len(gaps), NONE)
    calls = trace.calls
    waiting = rows_named(trace, _STREAM_WAIT)
    known = np.flatnonzero(launch != NONE)
    if not len(waiting) or not len(known):
        return found
    giving = np.flatnonzero(trace.activity_of_call != NONE)
    giving_of = {thread: giving[rows] for thread, rows in grouped(calls.thread[giving])}
    waiting_of = {thread: waiting[rows] for thread, rows in grouped(calls.thread[waiting])}
    for thread, places in grouped(calls.thread[launch[known]]):
        mine, rows = waiting_of.get(thread, waiting[:0]), known[places]
        place = np.searchsorted(calls.start_us[mine], calls.start_us[launch[rows]]) - 1
        row = mine[np.maximum(place, 0)] if len(mine) else np.full(len(rows), NONE)
        before_us = launch_before(calls.start_us[giving_of[thread]], calls.start_us[launch[rows]])
        fits = (place >= 0) & (at_rows(calls.start_us, row) > before_us)
        found[rows[fits]] = row[fits]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Splitter:
    """What is needed to split gaps; ``behind`` is as ``_stream_waits`` gives it."""

    trace: Trace
    waits: Waits
    gaps: Gaps
    moments: _Moments
    behind: Ints
    states: dict[int, HostStates]

    def parts(self, rows: Ints, thread: int, before: int) -> Parts:
        """The parts of some gaps that ``thread`` ended, after work that thread ``before`` had launched."""
        if thread == NONE:
            return self._whole(rows)
        states = self.states[thread]
        handed = self.states.get(before, states)
        row, start_us, end_us = cut(self.gaps.start_us[rows], self.gaps.end_us[rows], states.edges_us)
        gap = rows[row]
        if handed is not states:
            row, start_us, end_us = cut(start_us, end_us, handed.edges_us)
            gap = gap[row]
        for times_us in (self.moments.launching_us, self.moments.launched_us, self.moments.due_us):
            gap, start_us, end_us = _split(gap, start_us, end_us, times_us[gap])
        middle_us = (start_us + end_us) / 2
        cause, held = states.at(middle_us)
        by = np.full(len(gap), thread)
        if handed is not states:
            idle = np.flatnonzero(~states.is_known(middle_us) & handed.is_known(middle_us))
            cause[idle], held[idle] = handed.at(middle_us[idle])
            by[idle] = before
        cause, wait, call = self._caused(gap, middle_us, cause, held)
        return Parts(gap=gap, start_us=start_us, end_us=end_us, cause=cause, wait=wait, call=call, thread=by)

    def _whole(self, rows: Ints) -> Parts:
        """Gaps of which nothing is known."""
        nothing = np.full(len(rows), NONE)
        cause = np.full(len(rows), code_of("unknown"))
        start_us, end_us = self.gaps.start_us[rows], self.gaps.end_us[rows]
        return Parts(
            gap=rows, start_us=start_us, end_us=end_us, cause=cause, wait=nothing, call=nothing, thread=nothing
        )

    def _caused(self, gap: Ints, middle_us: Floats, cause: Ints, held: Ints) -> tuple[Ints, Ints, Ints]:
        """Cause, wait and call of parts, of what the host did in their middle and where the launched work was then."""
        gaps, moments = self.gaps, self.moments
        # After the last work nothing was issued any more.
        cause[(gaps.after[gap] == NONE) & (cause == code_of("launch_bound"))] = code_of("cpu_elsewhere")
        in_wait = cause == code_of("host_sync")
        wait = np.where(in_wait, held, NONE)
        # A wait for what ended the gap holds the host until then; no other one delays what is launched already.
        own = in_wait & (gaps.after[gap] != NONE) & (at_rows(self.waits.copy, wait) == gaps.after[gap])
        is_pageable = (gaps.after[gap] != NONE) & at_rows(self.trace.activities.pageable, gaps.after[gap])
        own &= (moments.launching_us[gap] > gaps.start_us[gap]) | is_pageable
        launching = (middle_us >= moments.launching_us[gap]) & ~own
        queued = launching & (middle_us >= moments.due_us[gap])
        in_set_up = np.isin(cause, [code_of("one_time_setup"), code_of("graph_capture")])
        on_its_way = launching & ~queued & ~(in_set_up & (middle_us < moments.launched_us[gap]))
        cause[on_its_way], cause[queued] = code_of("launch_overhead"), code_of("queued")
        in_call = np.isin(cause, [code_of("one_time_setup"), code_of("graph_capture")])
        return cause, wait, np.where(in_call, held, np.where(queued, self.behind[gap], NONE))


def _split(row: Ints, start_us: Floats, end_us: Floats, at_us: Floats) -> tuple[Ints, Floats, Floats]:
    """Intervals split in two where their own moment lies inside."""
    inside = np.flatnonzero((at_us > start_us) & (at_us < end_us))
    if not len(inside):
        return row, start_us, end_us
    first_end_us = end_us.copy()
    first_end_us[inside] = at_us[inside]
    return (
        np.concatenate([row, row[inside]]),
        np.concatenate([start_us, at_us[inside]]),
        np.concatenate([first_end_us, end_us[inside]]),
    )


def _joined(found: list[Parts]) -> Parts:
    """Parts of several threads by gap and start."""
    columns: dict[str, Any] = {
        each.name: np.concatenate([getattr(part, each.name) for part in found])
        if found
        else np.empty(0, np.float64 if each.name.endswith("_us") else np.int64)
        for each in fields(Parts)
    }
    order = np.lexsort((columns["start_us"], columns["gap"]))
    return Parts(**{name: column[order] for name, column in columns.items()})


def _recurring(trace: Trace, parts: Parts, steps: Steps | None) -> Ints:
    """The causes, with set-up taken for something else where the program does it again and again.

    That is in more than one and a tenth of the steady steps; without steps, in most of equal stretches of the time.
    """
    cause = parts.cause.copy()
    rows = np.flatnonzero(cause == code_of("one_time_setup"))
    if steps is None:
        start_us, end_us = parts.start_us.min(initial=0.0), parts.end_us.max(initial=1.0)
        stretch = ((parts.start_us[rows] - start_us) * NUM_STRETCHES / max(end_us - start_us, 1.0)).astype(np.int64)
        least = NUM_STRETCHES // 2
    else:
        rows = rows[parts.start_us[rows] >= steps.steady_us]
        stretch = steps.at(parts.start_us[rows])
        least = max(1, int(RECURRING * (len(steps) - steps.num_warm_up)))
    for _, places in grouped(trace.calls.name[parts.call[rows]]):
        if len(np.unique(stretch[places])) > least:
            allocates = trace.apis[parts.call[rows[places[0]]]] == Api.ALLOCATOR
            cause[rows[places]] = code_of("allocator" if allocates else "cpu_elsewhere")
    return cause


def _is_unrecorded(trace: Trace, waits: Waits, parts: Parts, behind: Ints) -> Mask:
    """Parts in which the host is held while nothing is recorded on any device, though something must have run."""
    activities = trace.activities
    queued = parts.cause == code_of("queued")
    asked = np.flatnonzero(
        (parts.wait != NONE) & ((parts.cause == code_of("host_sync")) | (queued & (behind[parts.gap] == NONE)))
    )
    busy = union(activities.start_us, activities.end_us)
    idle_us = parts.length_us[asked] - covered_us(*busy, parts.start_us[asked], parts.end_us[asked])
    copy = waits.copy[parts.wait[asked]]
    copied = np.where(copy == NONE, 0, at_rows(activities.num_bytes, copy))
    found = np.zeros(len(parts), np.bool_)
    found[asked] = idle_us > MIN_UNRECORDED_US + np.maximum(copied, 0) / LEAST_BYTES_PER_US
    return found


def _merged(parts: Parts) -> Parts:
    """Neighbours of one gap, cause, wait, call and thread as one part."""
    if not len(parts):
        return parts
    columns = (parts.gap, parts.cause, parts.wait, parts.call, parts.thread)
    differs = np.any([np.diff(column) != 0 for column in columns], axis=0)
    first = np.concatenate([[0], np.flatnonzero(differs) + 1])
    last = np.concatenate([first[1:], [len(parts)]]) - 1
    merged = Parts(**{each.name: getattr(parts, each.name)[first] for each in fields(Parts)})
    return replace(merged, end_us=parts.end_us[last])
