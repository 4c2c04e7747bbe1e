"""What a program would have taken without some of its waits: its host calls and GPU work replayed without them.

The host runs through its calls one after another; the GPU begins a piece of work when it was launched and its stream is
free; a wait ends when all that was launched before is done. With all waits in place the replay has to give the measured
time back, or it is not to be trusted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from bagel_perf.analysis.traces.table import NONE, Floats, Ints, Mask

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
