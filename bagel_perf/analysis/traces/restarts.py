"""What follows a wait until the device has work again is the wait's as well, as long as the host issues."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bagel_perf.analysis.traces.columns import grouped
from bagel_perf.analysis.traces.gaps import Gaps
from bagel_perf.analysis.traces.parts import Parts, code_of
from bagel_perf.analysis.traces.table import NONE, Floats, Ints, Mask, at_rows
from bagel_perf.analysis.traces.trace import Trace
from bagel_perf.analysis.traces.waits import Waits
from bagel_perf.schema.traces import Cause

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
