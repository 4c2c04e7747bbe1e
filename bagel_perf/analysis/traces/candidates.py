"""Calls and rows that are waits of the host, before anything is asked about them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from bagel_perf.analysis.traces.apis import WAITS, Api
from bagel_perf.analysis.traces.profiler import profiler_sync
from bagel_perf.analysis.traces.table import DEVICE_TO_DEVICE, MEMCPY, NONE, Floats, Ints, Mask
from bagel_perf.analysis.traces.trace import Trace

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
