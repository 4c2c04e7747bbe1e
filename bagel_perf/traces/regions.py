"""Where in the program a moment lies: the path of annotations around it, outermost first, and the step.

Steps are those of the warm-up, and the steady ones after them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bagel_perf.traces.nesting import Nest
from bagel_perf.traces.tables import KERNEL, NONE, STEP_PREFIX, WINDOW_NAME, Floats, Ints, Numbering, grouped
from bagel_perf.traces.trace import Trace
from bagel_perf.traces.window import Window

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


MIN_STEPS = 3
"""Something that happens less often is no period, unless the profiler itself calls it a step."""
MIN_COVERED = 0.8
"""Steps have to fill this share of the window, or they are a detail of something larger."""
MAX_LONGER = 1.5
"""A leading step that takes this many times the usual one belongs to the warm-up, as the first one always does."""
MIN_ALIKE = 0.9
"""Of the kernels of one period this share has to follow in the next one as well."""
MAX_TRIED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Begin and end of each step, rising; the first ``num_warm_up`` of them are the warm-up.

    ``of_device`` tells steps of the device's work from those of the host, which the work of the device follows.
    """

    found_by: str
    start_us: Floats
    end_us: Floats
    num_warm_up: int
    of_device: bool = False

    def __len__(self) -> int:
        return len(self.start_us)

    @property
    def steady_us(self) -> float:
        """The begin of the first steady step."""
        return float(self.start_us[self.num_warm_up])

    def at(self, moments_us: Floats) -> Ints:
        """The step that had begun last before each moment, -1 before the first."""
        return np.searchsorted(self.start_us, moments_us, side="right") - 1


def find_steps(trace: Trace, window: Window) -> Steps | None:
    """The steps that the profiler counted, else an annotation or a row of kernels that comes again and again."""
    return _of_annotations(trace, window) or _of_kernels(trace, window)


def _of_annotations(trace: Trace, window: Window) -> Steps | None:
    spans = trace.annotations
    names: Numbering[str] = Numbering()
    key = names.of([_without_number(name) for name in trace.names])[spans.name]
    plain = list(names)
    best: tuple[tuple[bool, float], str, Floats, Floats] | None = None
    is_frequent = (np.bincount(key, minlength=1) > 1)[key]
    for number, rows in _by_name_and_thread(key, spans.thread, np.flatnonzero(is_frequent)):
        name = plain[number]
        rows = rows[(spans.end_us[rows] > window.start_us) & (spans.start_us[rows] < window.end_us)]
        start_us, end_us = spans.start_us[rows], spans.end_us[rows]
        is_step = name.startswith(STEP_PREFIX)
        covered_us = float((end_us - start_us).sum())
        is_row = len(rows) >= (2 if is_step else MIN_STEPS) and bool((start_us[1:] >= end_us[:-1] - 1).all())
        if name == WINDOW_NAME or not is_row or covered_us < MIN_COVERED * window.length_us * (not is_step):
            continue
        rank = (is_step, covered_us)
        if best is None or rank > best[0]:
            best = rank, STEP_PREFIX if is_step else name, start_us, end_us
    return None if best is None else _steps(*best[1:])


def _without_number(name: str) -> str:
    """A name without the number at its end by which a program tells its steps apart."""
    stem = name.rstrip("0123456789")
    return name if stem == name else stem.rstrip(" #_:")


def _by_name_and_thread(name: Ints, thread: Ints, rows: Ints) -> Iterator[tuple[int, Ints]]:
    for each, places in grouped(name[rows]):
        mine = rows[places]
        yield from ((each, mine[of_thread]) for _, of_thread in grouped(thread[mine]))


def _of_kernels(trace: Trace, window: Window) -> Steps | None:
    """Periods of the names of the kernels of the busiest device, in the order of their begin."""
    activities = trace.activities
    inside = (activities.start_us >= window.start_us) & (activities.start_us < window.end_us)
    rows = np.flatnonzero(inside & (activities.kind == KERNEL))
    if not len(rows):
        return None
    rows = rows[activities.device[rows] == np.bincount(np.maximum(activities.device[rows], 0)).argmax()]
    names = activities.name[rows]
    counts = np.bincount(names)
    rare = np.flatnonzero(counts >= MIN_STEPS)
    for name in rare[np.argsort(counts[rare], kind="stable")][:MAX_TRIED]:
        places = np.flatnonzero(names == name)
        period = int(np.median(np.diff(places)))
        first = places[0]
        alike = names[first:-period] == names[first + period :]
        if not len(alike) or alike.mean() < MIN_ALIKE or len(np.unique(names[first : first + period])) < 2:
            continue
        start_us = activities.start_us[rows[places]]
        if start_us[-1] - start_us[0] < MIN_COVERED * window.length_us:
            continue
        found_by = f"the kernels that come again every {period}"
        ends = np.append(places[1:], min(int(places[-1]) + period, len(rows)))
        end_us = np.append(start_us[1:], activities.end_us[rows[ends[-1] - 1]])
        whole = ends - places >= period  # what the end of the trace cuts off is no step
        if whole.sum() >= MIN_STEPS:
            return _steps(found_by, start_us[whole], end_us[whole], of_device=True)
    return None


def _steps(found_by: str, start_us: Floats, end_us: Floats, *, of_device: bool = False) -> Steps:
    length_us = end_us - start_us
    usual_us = float(np.median(length_us[len(length_us) // 2 :]))
    short = np.flatnonzero(length_us[1:] <= MAX_LONGER * usual_us)
    num_warm_up = 1 + int(short[0]) if len(short) else 1
    return Steps(
        found_by=found_by,
        start_us=start_us,
        end_us=end_us,
        num_warm_up=min(num_warm_up, len(length_us) - 1),
        of_device=of_device,
    )
