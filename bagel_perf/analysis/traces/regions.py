"""Where in the program a moment lies: the path of annotations around it, outermost first."""

from __future__ import annotations

import re

import numpy as np

from bagel_perf.analysis.traces.columns import Numbering
from bagel_perf.analysis.traces.nesting import Nest
from bagel_perf.analysis.traces.table import NONE, WINDOW_NAME, Floats, Ints
from bagel_perf.analysis.traces.trace import Trace

MAX_DEPTH = 12

# A number that the profiler adds to tell steps apart is no part of a region's name.
_NUMBERED = re.compile(r"^(ProfilerStep)#\d+$")
_BACKWARD = "autograd::engine::evaluate_function"

Path = tuple[str, ...]


class Regions:
    """Numbers for paths of annotations; number 0 is the empty path."""

    def __init__(self, trace: Trace) -> None:
        inside = np.array([name != WINDOW_NAME for name in trace.names], np.bool_)
        self._spans = trace.annotations.where(inside[trace.annotations.name])
        self._nest = Nest.of(self._spans)
        self._names = trace.names
        self._numbers: Numbering[tuple[int, str]] = Numbering()
        self.paths: list[Path] = [()]
        self.parents: list[int] = [0]
        self._stand_ins = _stand_ins(trace, self._nest)

    def at(self, moments_us: Floats, thread: Ints) -> Ints:
        """The number of the path around each moment of a thread.

        The threads on which autograd runs backward have no annotations of their own; theirs are those of the thread
        that waits for them.
        """
        stand_ins = self._stand_ins[thread] if len(thread) else thread
        levels = self._nest.outermost(moments_us, stand_ins, MAX_DEPTH)
        path = np.zeros(len(levels), np.int64)
        for rows in levels.T:
            inside = np.flatnonzero(rows != NONE)
            path[inside] = self._extended(path[inside], self._spans.name[rows[inside]])
        return path

    def edges_us(self, thread: int) -> Floats:
        """The moments at which the path of a thread changes, rising."""
        mine = self._spans.thread == self._stand_ins[thread]
        return np.unique(np.concatenate([self._spans.start_us[mine], self._spans.end_us[mine]]))

    def spans(self) -> tuple[Ints, Floats, Floats]:
        """For each annotation the path that it is the last part of, its length, and its start."""
        middle_us = (self._spans.start_us + self._spans.end_us) / 2
        levels = self._nest.outermost(middle_us, self._spans.thread, MAX_DEPTH)
        path = np.zeros(len(levels), np.int64)
        for rows in levels.T:
            outer = (rows != NONE) & (rows <= np.arange(len(rows)))
            inside = np.flatnonzero(outer)
            path[inside] = self._extended(path[inside], self._spans.name[rows[inside]])
        return path, self._spans.end_us - self._spans.start_us, self._spans.start_us

    def _extended(self, path: Ints, name: Ints) -> Ints:
        keys, place = np.unique(path * len(self._names) + name, return_inverse=True)
        numbers = [self._number(int(key) // len(self._names), self._names[int(key) % len(self._names)]) for key in keys]
        return np.array(numbers, np.int64)[place] if numbers else path

    def _number(self, parent: int, name: str) -> int:
        name = _NUMBERED.sub(r"\1", name)
        number = self._numbers[parent, name] + 1
        if number == len(self.paths):
            self.paths.append((*self.paths[parent], name))
            self.parents.append(parent)
        return number


def _stand_ins(trace: Trace, nest: Nest) -> Ints:
    """For each thread the one whose annotations speak for it."""
    threads = np.arange(len(trace.threads))
    sizes = np.bincount(nest.spans.thread, minlength=len(threads))
    runs_backward = np.array([name.startswith(_BACKWARD) for name in trace.names], np.bool_)[trace.ops.name]
    backward = np.bincount(trace.ops.thread[runs_backward], minlength=len(threads)) > 0
    if sizes.any():
        threads[backward & (sizes == 0)] = sizes.argmax()
    return threads
