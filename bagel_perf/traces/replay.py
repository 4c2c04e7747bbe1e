"""What a program would have taken without some of its waits: its host calls and GPU work replayed without them.

Idle time that opened in a wait is no answer. Where the host is the slower side with or without waits it is too much;
where a wait keeps the host from running ahead it is too little.

The host runs through its calls one after another; the GPU begins a piece of work when it was launched and its stream is
free; a wait ends when all that was launched before is done. With all waits in place the replay has to give the measured
time back, or it is not to be trusted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bagel_perf.records.sites import KINDS, Kind
from bagel_perf.traces.findings import MAX_ORPHANS, Findings
from bagel_perf.traces.nesting import Nest
from bagel_perf.traces.tables import DEVICE_TO_HOST, NONE, Floats, Ints, Mask, grouped
from bagel_perf.traces.trace import Api, Trace
from bagel_perf.traces.waits import Waits

OTHER, LAUNCH, WAIT, BLOCKING_COPY = range(4)

MAX_LOOP_LAUNCHES = 4
MAX_LOOP_GPU_US = 20.0
"""Between two waits, no more launches and GPU time than this is a decision being computed, not the program's work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A program as calls in order; times in us.

    ``work_us`` is the host's own time before each call, ``own_us`` the call's without waiting, ``latency_us`` from
    launch to begin on an idle GPU, ``gpu_us`` the launched work, ``wake_us`` from the end of the GPU's work to the end
    of a wait; ``stream`` counts streams, NONE for a wait that is for all. ``wait`` is the row of ``Waits`` that a call
    is, or belongs to as part of its operator. Where ``vanishes``, that operator is there for the host alone:
    ``before_us`` of the work is outside of it, and ``after_us`` of the next call's work inside. ``tail_us`` is the
    host's work after the last call.
    """

    kind: Ints
    work_us: Floats
    own_us: Floats
    latency_us: Floats
    gpu_us: Floats
    wake_us: Floats
    stream: Ints
    wait: Ints
    vanishes: Mask
    before_us: Floats
    after_us: Floats
    num_streams: int
    tail_us: float

    def duration_us(self, without: Collection[int] = (), *, with_loops: bool = False) -> float:
        """How long the program takes without some waits (rows of ``Waits``).

        ``with_loops`` also leaves out what computes the decision between two waits that follow each other and both go.
        """
        # Some waits are no call of the trace; NONE is the last one, which stays False.
        gone = np.zeros(max(int(self.wait.max(initial=NONE)), max(without, default=NONE)) + 2, np.bool_)
        gone[list(without)] = True
        is_gone = gone[self.wait]
        skipped = is_gone & self.vanishes
        work_us = np.where(skipped, self.before_us, self.work_us)
        work_us[1:] -= np.where(skipped[:-1], self.after_us[:-1], 0.0)
        if with_loops:
            between = self._between(is_gone)
            skipped, work_us = skipped | between, np.where(between, 0.0, work_us)
        freed = is_gone & ~self.vanishes
        kind = np.where(freed & (self.kind == BLOCKING_COPY), LAUNCH, self.kind)
        kind = np.where(freed & (self.kind == WAIT), OTHER, kind)
        own_us = np.where(freed & (self.kind == WAIT), 0.0, self.own_us)
        return self._run(np.where(skipped, NONE, kind), np.maximum(work_us, 0.0), own_us)

    def _between(self, is_gone: Mask) -> Mask:
        """The calls between two waits that go and follow each other closely, the second wait included."""
        rows = np.flatnonzero(np.isin(self.kind, (WAIT, BLOCKING_COPY)))
        first, second = rows[:-1], rows[1:]
        launches = np.concatenate([[0], np.cumsum(np.isin(self.kind, (LAUNCH, BLOCKING_COPY)))])
        gpu_us = np.concatenate([[0.0], np.cumsum(self.gpu_us)])
        close = launches[second + 1] - launches[first + 1] <= MAX_LOOP_LAUNCHES
        close &= gpu_us[second + 1] - gpu_us[first + 1] <= MAX_LOOP_GPU_US
        pairs = is_gone[first] & is_gone[second] & close
        steps = np.zeros(len(self.kind) + 1, np.int64)
        np.add.at(steps, first[pairs] + 1, 1)
        np.add.at(steps, second[pairs] + 1, -1)
        inside: Mask = np.cumsum(steps[:-1]) > 0
        return inside

    def _run(self, kind: Ints, work_us: Floats, own_us: Floats) -> float:
        """The recurrence itself; calls of kind NONE are left out."""
        host_us = 0.0
        free_us = [0.0] * max(self.num_streams, 1)
        columns = (kind, work_us, own_us, self.latency_us, self.gpu_us, self.wake_us, self.stream)
        for what, work, own, latency, gpu, wake, stream in zip(*(c.tolist() for c in columns), strict=True):
            host_us += work
            if what in (LAUNCH, BLOCKING_COPY):
                free_us[stream] = max(host_us + latency, free_us[stream]) + gpu
            if what in (WAIT, BLOCKING_COPY):
                done_us = max(free_us) if stream == NONE else free_us[stream]
                host_us = max(host_us + own, done_us + wake)
            elif what != NONE:
                host_us += own
        return max(host_us + self.tail_us, *free_us)


MAX_OVERLAP = 0.02
"""Share of calls that may begin while another thread is inside one; with more, threads launch side by side."""
MAX_LAUNCH_US = 200.0
"""A launch that takes longer, of work that begins as much later still, waited for room in the queue: no host's work."""
LAUNCH_LATENCY_US = 5.0
WAKE_US = 5.0
MAX_OWN_US = 10.0

OF_READS = ("aten::item", "aten::_local_scalar_dense", "aten::is_nonzero")
VANISHING: tuple[Kind, ...] = ("scalar_read", "list_of_scalars", "tensor_as_size")


def build_replay(findings: Findings) -> Replay | None:
    """The replay of a trace's window; None without calls, and where threads launch side by side, in no one order."""
    trace, waits, window = findings.trace, findings.waits, findings.window
    calls = trace.calls
    inside = (calls.start_us >= window.start_us) & (calls.start_us <= window.end_us)
    rows = np.flatnonzero(inside & ~trace.inside_another(inside))
    start_us, end_us = calls.start_us[rows], calls.end_us[rows]
    reach_us = np.concatenate([[window.start_us], np.maximum.accumulate(end_us)])[:-1]
    if not len(rows) or np.mean(start_us < reach_us - 1.0) > MAX_OVERLAP:
        return None
    activity = trace.activity_of_call[rows]
    kind = _kinds(trace, rows, activity, waits)
    gpu_us, stream, num_streams = _launched(trace, activity)
    own_us, wake_us = _waiting(trace, kind, activity, start_us, end_us)
    wait, vanishes, before_us, after_us = _operators_of_waits(trace, rows, reach_us, waits)
    return Replay(
        kind=kind,
        work_us=np.maximum(start_us - reach_us, 0.0),
        own_us=own_us,
        latency_us=_latencies(trace, activity, start_us),
        gpu_us=gpu_us,
        wake_us=wake_us,
        stream=np.where(kind == WAIT, NONE, stream),
        wait=wait,
        vanishes=vanishes,
        before_us=before_us,
        after_us=after_us,
        num_streams=num_streams,
        tail_us=max(window.end_us - float(end_us.max()), 0.0),
    )


def _kinds(trace: Trace, rows: Ints, activity: Ints, waits: Waits) -> Ints:
    is_wait = np.isin(rows, waits.call[waits.call != NONE])
    launched = np.where(activity == NONE, 0, activity)
    blocks = activity != NONE
    if len(trace.activities):
        blocks &= trace.activities.pageable[launched] & (trace.activities.copy[launched] == DEVICE_TO_HOST)
    blocks |= is_wait & (trace.apis[rows] == Api.WAIT_COPY)
    return np.select([blocks, is_wait, activity != NONE], [BLOCKING_COPY, WAIT, LAUNCH], OTHER)


def _launched(trace: Trace, activity: Ints) -> tuple[Floats, Ints, int]:
    """GPU time and stream of what each call launched, and the number of streams."""
    done = trace.activities
    if not len(done):
        return np.zeros(len(activity)), np.full(len(activity), NONE), 0
    keys, stream = np.unique(done.device * 1_000_000 + done.stream, return_inverse=True)
    # What was queued takes from the end of the work before it: the gap between them, or less where they overlap.
    launched = trace.call_of_activity
    begin_us = done.start_us.copy()
    for _, rows in grouped(stream):
        reach_us = _reach_before(done.end_us[rows])
        is_late = (launched[rows] == NONE) | (trace.calls.start_us[launched[rows]] >= reach_us)
        begin_us[rows] = np.where(is_late, done.start_us[rows], reach_us)
    gpu_us = np.where(activity == NONE, 0.0, np.maximum(_last_ends(trace) - begin_us, 0.0)[activity])
    return gpu_us, np.where(activity == NONE, NONE, stream[activity]), len(keys)


def _last_ends(trace: Trace) -> Floats:
    """For each activity the end of the last one of its launch: a graph's starts many."""
    done = trace.activities
    known = np.where(done.correlation >= 0, done.correlation, -1 - np.arange(len(done)))
    _, group = np.unique(known, return_inverse=True)
    last_end_us = np.full(int(group.max(initial=0)) + 1, -np.inf)
    np.maximum.at(last_end_us, group, done.end_us)
    return last_end_us[group]


def _latencies(trace: Trace, activity: Ints, start_us: Floats) -> Floats:
    """From a call to the begin of its work: as measured where the GPU stood idle before, else what is usual here."""
    done = trace.activities
    if not len(done):
        return np.full(len(activity), LAUNCH_LATENCY_US)
    reach_us = _reach_before(done.end_us)[activity]
    was_idle = (activity != NONE) & (reach_us < start_us)
    latency_us = np.maximum(done.start_us[activity] - start_us, 0.0)
    usual_us = float(np.median(latency_us[was_idle])) if was_idle.any() else LAUNCH_LATENCY_US
    # What was queued took no longer to get there than the work before it took to end.
    return np.where(was_idle, latency_us, np.minimum(usual_us, np.maximum(reach_us - start_us, 0.0)))


def _reach_before(end_us: Floats) -> Floats:
    """For each of some intervals, sorted by start, where those before it end."""
    return np.concatenate([[-np.inf], np.maximum.accumulate(end_us)])[: len(end_us)]


def _waiting(trace: Trace, kind: Ints, activity: Ints, start_us: Floats, end_us: Floats) -> tuple[Floats, Floats]:
    """Each call's own time, and for a wait how long after the end of the GPU's work it returns."""
    own_us = end_us - start_us
    launches = kind == LAUNCH
    usual_launch_us = float(np.median(own_us[launches])) if launches.any() else LAUNCH_LATENCY_US
    if not len(trace.activities):
        return own_us, np.full(len(kind), WAKE_US)
    had_no_room = launches & (own_us > MAX_LAUNCH_US) & (trace.activities.start_us[activity] - end_us > MAX_LAUNCH_US)
    own_us = np.where(had_no_room, usual_launch_us, own_us)
    ends_us = np.where(activity == NONE, -np.inf, _last_ends(trace)[activity])
    done_us = np.maximum.accumulate(ends_us)
    waits = np.isin(kind, (WAIT, BLOCKING_COPY))
    held = waits & (done_us > start_us)
    wake_us = np.maximum(end_us - done_us, 0.0)
    usual_wake_us = float(np.median(wake_us[held])) if held.any() else WAKE_US
    quick = waits & ~held
    # A wait that returns before all launched work is done was for an event: its length is taken as it is.
    was_for_event = waits & (done_us > end_us)
    usual_own_us = min(float(np.median(own_us[quick])) if quick.any() else WAKE_US, MAX_OWN_US)
    own_us = np.where(held & ~was_for_event, np.minimum(usual_own_us, own_us), own_us)
    return own_us, np.select([was_for_event, held], [-np.inf, wake_us], usual_wake_us)


def _operators_of_waits(trace: Trace, rows: Ints, reach_us: Floats, waits: Waits) -> tuple[Ints, Mask, Floats, Floats]:
    """For each call its wait, whether it goes with it, and the host's work around that operator (see ``Replay``)."""
    num_calls = len(rows)
    wait = np.full(num_calls, NONE)
    vanishes = np.zeros(num_calls, np.bool_)
    before_us, after_us = np.zeros(num_calls), np.zeros(num_calls)
    place_of_call = np.full(len(trace.calls) + 1, NONE)
    place_of_call[rows] = np.arange(num_calls)
    copy_call = np.where(waits.copy == NONE, NONE, trace.call_of_activity[waits.copy])
    for call in (copy_call, waits.call):  # a wait of its own goes before one that only follows the copy
        place_of_wait = place_of_call[call]
        is_known = place_of_wait != NONE
        wait[place_of_wait[is_known]] = np.flatnonzero(is_known)
    operator = _read_operators(trace, waits)
    start_us, end_us, thread = trace.calls.start_us[rows], trace.calls.end_us[rows], trace.calls.thread[rows]
    for each in np.flatnonzero(is_known & (operator != NONE)):
        op_start_us, op_end_us = trace.ops.start_us[operator[each]], trace.ops.end_us[operator[each]]
        last = place_of_wait[each]
        first = int(np.searchsorted(start_us, op_start_us, side="left"))
        inside = slice(first, last + 1)
        mine = thread[inside] == waits.thread[each]
        wait[inside] = np.where(mine, each, wait[inside])
        vanishes[inside] |= mine
        before_us[first] = max(op_start_us - reach_us[first], 0.0)
        after_us[last] = max(op_end_us - end_us[last], 0.0)
    return wait, vanishes, before_us, after_us


def _read_operators(trace: Trace, waits: Waits) -> Ints:
    """For each wait the row of the outermost operator that only reads for the host, NONE where there is none."""
    is_read = np.array([name in OF_READS for name in trace.names], np.bool_)
    reads = np.flatnonzero(is_read[trace.ops.name]) if len(trace.ops) else np.empty(0, np.int64)
    levels = Nest.of(trace.ops.where(reads)).enclosing((waits.start_us + waits.end_us) / 2, waits.thread)
    outermost = levels[:, 0] if levels.shape[1] else np.full(len(waits), NONE)
    vanishing = np.isin(waits.kind, [KINDS.index(kind) for kind in VANISHING])
    return np.where((outermost != NONE) & vanishing, reads[outermost] if len(reads) else NONE, NONE)


MAX_MISS = 0.05
"""A replay that misses the trace's own time by more says nothing about another one."""
MAX_REPLAYED_CALLS = 1_000_000
"""A replay takes about a microsecond a call, a prediction two replays: a report spends a second or two on them."""


class PredictedSavings:
    """Predicted savings of groups of waits of one trace; none where the replay is in ``doubt``.

    Nothing is replayed before a predicted saving is asked for.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    @cached_property
    def _replay(self) -> Replay | None:
        return build_replay(self._findings) if self._findings.has_gpu else None

    @cached_property
    def _whole_us(self) -> float:
        return 0.0 if self._replay is None else self._replay.duration_us()

    @cached_property
    def doubt(self) -> str:
        """Why there are no predicted savings, empty where there are."""
        if not self._findings.has_gpu:
            return "nothing is known of the GPU"
        if self._replay is None:
            return "threads launch side by side, so the order of their work without waits cannot be told"
        if self._findings.orphan_share > MAX_ORPHANS:
            return "part of the GPU's work lacks its launch, so its order without waits cannot be told"
        window_us = self._findings.window.length_us
        _, unrecorded_us = self._findings.idle.unrecorded_us()
        if unrecorded_us > MAX_MISS * window_us:
            return f"the host waited {unrecorded_us / 1e3:.2f} ms for work that is not recorded"
        if abs(self._whole_us - window_us) > MAX_MISS * window_us:
            return f"the replay takes {self._whole_us / 1e3:.2f} ms where the trace took {window_us / 1e3:.2f}"
        return ""

    @cached_property
    def _foreign(self) -> set[int]:
        """Waits for work from before the trace: nobody knows what the program would do without them."""
        return self._findings.idle.waits_before_work()

    @property
    def num_affordable(self) -> int:
        """Of how many groups of waits a report of this trace should tell the predicted saving."""
        return MAX_REPLAYED_CALLS // (2 * len(self._findings.trace.calls) + 1) if self._findings.has_gpu else 0

    def of(self, waits: Collection[int]) -> tuple[float, float] | None:
        """What the program would save without some waits (rows of ``Waits``), in ms.

        At least, if they alone went, and at most, if what only computes their answers went too.
        """
        waits = [wait for wait in waits if wait not in self._foreign]
        if self.doubt or self._replay is None or not waits:
            return None
        alone_us = max(self._whole_us - self._replay.duration_us(waits), 0.0)
        with_loops_us = self._whole_us - self._replay.duration_us(waits, with_loops=True)
        return alone_us / 1e3, max(alone_us, with_loops_us) / 1e3
