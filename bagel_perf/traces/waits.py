"""The waits of the host for the device, each counted once, with the line of the program where stacks were recorded.

A read of one scalar shows as an asynchronous copy, a stream synchronization and, if asked for, a cuda_sync row of the
GPU side: one wait. A driver call inside a runtime call is the same wait; allocator calls are none of these.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bagel_perf.traces.names import kinds_of
from bagel_perf.traces.nesting import first_of, last_of
from bagel_perf.traces.regions import Regions
from bagel_perf.traces.tables import (
    DEVICE_TO_DEVICE,
    MEMCPY,
    NONE,
    CallSite,
    Floats,
    Ints,
    Mask,
    Numbering,
    at_rows,
    grouped,
)
from bagel_perf.traces.trace import WAITS, Api, Trace
from bagel_perf.traces.window import Window, profiler_sync, window_of

_FRAME = re.compile(r"(?P<file>.+\.py)\((?P<line>\d+)\): (?P<function>.+)")
_CALLER = re.compile(r"(?P<file>.+\.py):(?P<line>\d+)")
_LIBRARY = re.compile(r"(.*/)?(torch|torchvision|triton|contextlib|functools|threading|runpy|concurrent)(/|\.py$)")


def lines_of(trace: Trace, moments_us: Floats, thread: Ints, call: Ints) -> tuple[Ints, tuple[CallSite, ...]]:
    """For each moment a number into the sites that are returned with it, NONE where the line is not known."""
    if len(trace.sites):
        return np.where(call == NONE, NONE, trace.calls.site[call]), trace.sites
    names, callers = trace.frames.name.tolist(), trace.frames.caller.tolist()
    numbers: Numbering[CallSite] = Numbering()
    levels = trace.frame_nest.enclosing(moments_us, thread)
    found = np.full(len(levels), NONE)
    for i, rows in enumerate(levels.tolist()):
        frames = (
            (trace.names[names[row]], trace.names[callers[row]] if callers[row] != NONE else "")
            for row in reversed(rows)
            if row != NONE
        )
        site = program_line(frames)
        if site is not None:
            found[i] = numbers[site]
    return found, tuple(numbers)


def program_line(frames: Iterable[tuple[str, str]]) -> CallSite | None:
    """The line of the program that runs, of frames with the line that called each, innermost first.

    Up to PyTorch 2.13 frames name the line at which a function begins, and that is all there is. Since 2.14 each also
    names the line that called it: what the program called last is on the line that runs.
    """
    line: re.Match[str] | None = None
    for frame, caller in frames:
        site = program_site(frame)
        if site is None:
            line = _CALLER.fullmatch(caller)
        elif line is not None and line["file"] == site.file:
            return CallSite(file=site.file, line=int(line["line"]), function=site.function)
        else:
            return site
    return None


def program_site(frame: str) -> CallSite | None:
    """The function that a frame of Kineto names, None if it is built in or a library's."""
    match = _FRAME.fullmatch(frame)
    if match is None or _LIBRARY.match(match["file"]):
        return None
    return CallSite(file=match["file"], line=int(match["line"]), function=match["function"])


_API_BY_SYNC = {"Event Sync": Api.WAIT_EVENT, "Stream Sync": Api.WAIT_STREAM}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """One row per wait by start; ``call`` is NONE for a wait that only the GPU side recorded."""

    start_us: Floats
    end_us: Floats
    thread: Ints
    name: Ints
    api: Ints
    call: Ints
    num_profiler_syncs: int

    def __len__(self) -> int:
        return len(self.start_us)

    def where(self, rows: Mask | Ints) -> Candidates:
        """The chosen rows."""
        columns = ("start_us", "end_us", "thread", "name", "api", "call")
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in columns})


def wait_candidates(trace: Trace) -> Candidates:
    """Blocking calls that no other one contains, then what only cuda_sync rows show; without the profiler's own."""
    calls, apis = trace.calls, trace.apis
    waits = np.isin(apis, WAITS) & ~_between_devices(trace)
    waits &= ~trace.inside_another(waits | (apis == Api.ALLOCATOR))
    by_profiler = profiler_sync(trace)
    rows = np.flatnonzero(waits)
    rows = rows[rows != by_profiler]
    # A row that repeats a call, whatever that call is (a query of an event has one too), says nothing new.
    unseen = np.flatnonzero(~np.isin(trace.syncs.correlation, calls.correlation[calls.correlation >= 0]))
    unseen = unseen[~_during(trace, unseen, np.flatnonzero(waits | (apis == Api.ALLOCATOR)))]
    syncs = trace.syncs
    sync_api = [_API_BY_SYNC.get(trace.names[name], Api.WAIT_DEVICE) for name in syncs.name[unseen]]
    found = Candidates(
        start_us=np.concatenate([calls.start_us[rows], syncs.start_us[unseen]]),
        end_us=np.concatenate([calls.end_us[rows], syncs.end_us[unseen]]),
        thread=np.concatenate([calls.thread[rows], np.full(len(unseen), main_thread(trace))]),
        name=np.concatenate([calls.name[rows], syncs.name[unseen]]),
        api=np.concatenate([apis[rows], np.array(sync_api, np.int64)]),
        call=np.concatenate([rows, np.full(len(unseen), NONE)]),
        num_profiler_syncs=int(by_profiler != NONE),
    )
    return found.where(np.argsort(found.start_us, kind="stable"))


def main_thread(trace: Trace) -> int:
    """The thread that calls the device most, else the one that runs most operators."""
    table = trace.calls if len(trace.calls) else trace.ops
    if not len(table):
        return 0
    counts = np.bincount(table.thread)
    # Of threads that do as much, the order of the file must not choose.
    return min(np.flatnonzero(counts == counts.max()).tolist(), key=lambda thread: trace.threads[thread])


def _between_devices(trace: Trace) -> Mask:
    """Blocking copies within and between devices: the host does not wait for those."""
    activity, apis = trace.activity_of_call, trace.apis
    copies = np.flatnonzero((apis == Api.WAIT_COPY) & (activity != NONE))
    found = np.zeros(len(apis), np.bool_)
    row = activity[copies]
    found[copies] = (trace.activities.kind[row] == MEMCPY) & (trace.activities.copy[row] == DEVICE_TO_DEVICE)
    return found


def _during(trace: Trace, syncs: Ints, calls: Ints) -> Mask:
    """Which cuda_sync rows lie inside one of some calls of any thread."""
    middle_us = (trace.syncs.start_us[syncs] + trace.syncs.end_us[syncs]) / 2
    if not len(calls):
        return np.zeros(len(syncs), np.bool_)
    reach_us = np.maximum.accumulate(trace.calls.end_us[calls])
    place = np.searchsorted(trace.calls.start_us[calls], middle_us, side="right") - 1
    return (place >= 0) & (reach_us[np.maximum(place, 0)] >= middle_us)


# An asynchronous copy and the wait that follows it belong together if no more time than this is between them; it
# decides only where no operator shows that they do.
MAX_COPY_TO_WAIT_US = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """One row per wait, by start.

    A wait for a pageable copy begins with the copy call, which does most of the waiting. For every wait for a copy
    ``begun_us`` is the start of the copy call: from there on the host launched nothing. ``name`` is the call's,
    ``inner_op`` and ``outer_op`` are the operators around it (numbers into ``Trace.names``), ``kind`` a number into
    ``records.sites.KINDS``, ``region`` one into ``Regions.paths``, ``site`` one into ``sites``, ``call`` the row of the
    call and ``copy`` that of the activity that was waited for; each NONE where unknown. ``marker`` is the N of our own.

    ``unmatched_markers`` are those after which their thread did not wait. ``num_profiler_syncs`` waits of the profiler
    itself are not among the rows.
    """

    begun_us: Floats
    start_us: Floats
    end_us: Floats
    thread: Ints
    name: Ints
    kind: Ints
    inner_op: Ints
    outer_op: Ints
    region: Ints
    site: Ints
    call: Ints
    copy: Ints
    marker: Ints
    sites: tuple[CallSite, ...]
    unmatched_markers: Ints
    num_profiler_syncs: int

    def __len__(self) -> int:
        return len(self.start_us)

    @property
    def blocked_us(self) -> Floats:
        """How long each held its thread."""
        return self.end_us - self.start_us


def find_waits(trace: Trace, regions: Regions | None = None, window: Window | None = None) -> Waits:
    """Every wait that begins in the window (default: ``window_of(trace)``), with what it waited for and where."""
    regions = Regions(trace) if regions is None else regions
    window = window_of(trace) if window is None else window
    found = wait_candidates(trace)
    found = found.where((found.start_us >= window.start_us) & (found.start_us <= window.end_us))
    middle_us = (found.start_us + found.end_us) / 2
    levels = trace.op_nest.enclosing(middle_us, found.thread)
    copy_call = _copies_waited_for(trace, found, last_of(levels))
    copy = np.where(copy_call == NONE, NONE, at_rows(trace.activity_of_call, copy_call))
    direction = np.where(copy == NONE, NONE, at_rows(trace.activities.copy, copy))
    pageable = (copy != NONE) & at_rows(trace.activities.pageable, copy)
    begins_with_copy = pageable & (copy_call != found.call)
    site, sites = lines_of(trace, middle_us, found.thread, found.call)
    markers, unmatched = _markers(trace, found, window)
    names = np.where(levels == NONE, NONE, at_rows(trace.ops.name, levels))
    copied_us = at_rows(trace.calls.start_us, copy_call)
    return Waits(
        begun_us=np.where(copy_call == NONE, found.start_us, copied_us),
        start_us=np.where(begins_with_copy, copied_us, found.start_us),
        end_us=found.end_us,
        thread=found.thread,
        name=found.name,
        kind=kinds_of(names, found.api, direction, pageable, trace.names),
        inner_op=last_of(names),
        outer_op=first_of(names),
        region=regions.at(middle_us, found.thread),
        site=site,
        call=found.call,
        copy=copy,
        marker=markers,
        sites=sites,
        unmatched_markers=unmatched,
        num_profiler_syncs=found.num_profiler_syncs,
    )


def _copies_waited_for(trace: Trace, found: Candidates, inner_op: Ints) -> Ints:
    """For each wait the call that copied what is waited for, NONE where it waits for something else.

    That is the wait itself if it copies; else the copy before it on its thread, if nothing was launched in between and
    both are of the same operator.
    """
    calls, apis = trace.calls, trace.apis
    copy = np.where(found.api == Api.WAIT_COPY, found.call, NONE)
    telling = np.isin(apis, (*WAITS, Api.COPY_ASYNC, Api.LAUNCH, Api.GRAPH_LAUNCH))
    telling_rows = dict(grouped(np.where(telling, calls.thread, NONE)))
    for thread, asked in grouped(found.thread):
        rows = telling_rows.get(thread, np.empty(0, np.int64))
        place = np.searchsorted(calls.start_us[rows], found.start_us[asked], side="left") - 1
        before = np.where(place >= 0, rows[np.maximum(place, 0)] if len(rows) else NONE, NONE)
        is_copy = (before != NONE) & (found.api[asked] != Api.WAIT_COPY)
        is_copy[is_copy] = apis[before[is_copy]] == Api.COPY_ASYNC
        copy[asked[is_copy]] = before[is_copy]
    paired = np.flatnonzero((copy != NONE) & (found.api != Api.WAIT_COPY))
    middle_us = (calls.start_us[copy[paired]] + calls.end_us[copy[paired]]) / 2
    op_of_copy = trace.op_nest.innermost(middle_us, found.thread[paired])
    near = found.start_us[paired] - calls.end_us[copy[paired]] <= MAX_COPY_TO_WAIT_US
    together = (op_of_copy == inner_op[paired]) & (near | (op_of_copy != NONE))
    copy[paired[~together]] = NONE
    return copy


def _markers(trace: Trace, found: Candidates, window: Window) -> tuple[Ints, Ints]:
    """For each wait the number of the last marker since the wait before it, and the numbers of all other markers."""
    markers = trace.markers
    number = np.full(len(found), NONE)
    taken = np.zeros(len(markers), np.bool_)
    marker_rows = dict(grouped(markers.thread))
    for thread, asked in grouped(found.thread):
        rows = marker_rows.get(thread)
        if rows is None:
            continue
        place = np.searchsorted(markers.start_us[rows], found.start_us[asked], side="right") - 1
        row = rows[np.maximum(place, 0)]
        since_us = np.concatenate([[-np.inf], np.maximum.accumulate(found.end_us[asked])[:-1]])
        fits = (place >= 0) & (markers.start_us[row] >= since_us)
        number[asked[fits]] = trace.marker_numbers[row[fits]]
        taken[row[fits]] = True
    in_window = (markers.start_us >= window.start_us) & (markers.start_us <= window.end_us)
    return number, trace.marker_numbers[~taken & in_window]
