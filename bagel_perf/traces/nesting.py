"""Which spans enclose a moment of a thread, for many moments at once.

Each span knows its parent: of the spans that were open when it began, the one that began last. All that enclose a
moment are then among the last one that began before it and its ancestors. As spans may be nested by the thousand,
each also knows an ancestor farther up and the last end of all on the way there, so that a climb takes a logarithm of
steps (Myers, "An applicative random-access stack", 1983).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bagel_perf.traces.tables import NONE, Floats, Ints, Spans, grouped

MAX_LEVELS = 256
"""Of more spans around one moment the middle ones are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nest:
    """The rows of a table of spans by thread, with the ancestors of each; spans without length are left out.

    ``rows`` stand by thread and then by start, those of a thread in ``slices``. ``parent`` and ``far`` are places among
    them, ``depth`` counts ancestors, ``reach_us`` is the last end of those above a span up to ``far``. The place after
    the last one stands for no span, and is where every climb ends.
    """

    spans: Spans
    rows: Ints
    slices: dict[int, slice]
    start_us: Floats
    end_us: Floats
    parent: Ints
    depth: Ints
    far: Ints
    reach_us: Floats

    @classmethod
    def of(cls, spans: Spans) -> Nest:
        """The nest of a table that is sorted as ``table`` promises."""
        places: list[Ints] = []
        slices: dict[int, slice] = {}
        begin = 0
        for thread, rows in grouped(spans.thread):
            mine = rows[spans.end_us[rows] > spans.start_us[rows]]
            slices[thread] = slice(begin, begin + len(mine))
            begin += len(mine)
            places.append(mine)
        rows = np.concatenate([*places, np.empty(0, np.int64)])
        start_us, end_us = spans.start_us[rows], spans.end_us[rows]
        parent, depth = _parents(start_us, end_us, slices)
        end_us = np.append(end_us, np.inf)
        far, reach_us = _far(parent, depth, end_us)
        return cls(
            spans=spans,
            rows=np.append(rows, NONE),
            slices=slices,
            start_us=start_us,
            end_us=end_us,
            parent=parent,
            depth=depth,
            far=far,
            reach_us=reach_us,
        )

    def innermost(self, moments_us: Floats, thread: Ints) -> Ints:
        """Row of the innermost span around each moment, NONE where none is."""
        return self.rows[self._innermost(moments_us, thread)]

    def outermost(self, moments_us: Floats, thread: Ints, max_levels: int) -> Ints:
        """Rows of the outermost spans around each moment, [number of moments, levels], outermost first, then NONE."""
        return self._around(moments_us, thread, max_levels, max_levels)

    def enclosing(self, moments_us: Floats, thread: Ints) -> Ints:
        """Rows of the spans around each moment, [number of moments, levels], outermost first, then NONE."""
        return self._around(moments_us, thread, MAX_LEVELS // 2, MAX_LEVELS)

    def _around(self, moments_us: Floats, thread: Ints, num_outer: int, max_levels: int) -> Ints:
        """Rows of the spans around each moment; of more than ``max_levels`` these outer ones and those inside."""
        place = self._innermost(moments_us, thread)
        levels = self._levels(place, moments_us, max_levels)
        if levels.shape[1] == max_levels:
            full = np.flatnonzero(levels[:, -1] != NONE)
            outer = self._levels(self._up_to(place[full], num_outer), moments_us[full], num_outer)
            if outer.shape[1] == num_outer:
                whole = outer[:, -1] != NONE
                levels[full[whole], :num_outer] = outer[whole]
        return levels

    def _innermost(self, moments_us: Floats, thread: Ints) -> Ints:
        """Place of the innermost span around each moment."""
        nothing = len(self.rows) - 1
        place = np.full(len(moments_us), nothing)
        for each, asked in grouped(thread):
            part = self.slices.get(each, slice(0, 0))
            found = np.searchsorted(self.start_us[part], moments_us[asked], side="right") - 1
            place[asked] = np.where(found >= 0, part.start + found, nothing)
        return self._open(place, moments_us)

    def _open(self, place: Ints, moments_us: Floats) -> Ints:
        """The first of a span and its ancestors that has not ended before each moment."""
        place = place.copy()
        ended = np.flatnonzero(self.end_us[place] < moments_us)
        while len(ended):
            here = place[ended]
            place[ended] = np.where(self.reach_us[here] < moments_us[ended], self.far[here], self.parent[here])
            ended = ended[self.end_us[place[ended]] < moments_us[ended]]
        return place

    def _up_to(self, place: Ints, max_depth: int) -> Ints:
        """The first of a span and its ancestors that has fewer than ``max_depth`` ancestors."""
        place = place.copy()
        deep = np.flatnonzero(self.depth[place] >= max_depth)
        while len(deep):
            here = place[deep]
            far = self.far[here]
            place[deep] = np.where(self.depth[far] >= max_depth - 1, far, self.parent[here])
            deep = deep[self.depth[place[deep]] >= max_depth]
        return place

    def _levels(self, place: Ints, moments_us: Floats, max_levels: int) -> Ints:
        """Rows of the first ``max_levels`` of a span and its ancestors that enclose each moment, outermost first."""
        climbed: list[tuple[Ints, Ints]] = []
        place = place.copy()
        count = np.zeros(len(place), np.int64)
        asked = np.arange(len(place))
        for _ in range(max_levels):
            here = self._open(place[asked], moments_us[asked])
            is_span = self.rows[here] != NONE
            asked, here = asked[is_span], here[is_span]
            if not len(asked):
                break
            climbed.append((asked, self.rows[here]))
            count[asked] += 1
            place[asked] = self.parent[here]
        levels = np.full((len(place), len(climbed)), NONE)
        for step, (moment, row) in enumerate(climbed):
            levels[moment, count[moment] - 1 - step] = row
        return levels


def last_of(levels: Ints) -> Ints:
    """The last entry of each row that is not NONE, NONE where none is."""
    last = np.full(len(levels), NONE)
    for column in levels.T:
        last = np.where(column != NONE, column, last)
    return last


def first_of(levels: Ints) -> Ints:
    """The first entry of each row that is not NONE, NONE where none is."""
    return last_of(levels[:, ::-1])


def _parents(start_us: Floats, end_us: Floats, slices: dict[int, slice]) -> tuple[Ints, Ints]:
    """Parent and depth of each place, and of the one after the last; that one is the parent of what has none."""
    nothing = len(start_us)
    depth = np.empty(nothing + 1, np.int64)
    for part in slices.values():
        ended = np.searchsorted(np.sort(end_us[part]), start_us[part], side="right")
        depth[part] = np.arange(len(ended)) - ended
    depth[nothing] = -1
    parent = np.full(nothing + 1, nothing)
    is_nested = True
    for outer, inner in _pairs_of_levels(depth[:-1]):
        parent[inner] = outer[np.searchsorted(outer, inner) - 1]
        is_nested &= bool((end_us[inner] <= end_us[parent[inner]]).all())
    if is_nested and _is_apart(start_us, end_us, parent, depth):
        return parent, depth
    return _parents_of_any(start_us, end_us, slices)


def _pairs_of_levels(depth: Ints) -> Iterator[tuple[Ints, Ints]]:
    """The places of each depth with those of the next one."""
    levels = [places for _, places in grouped(depth)]
    return pairwise(levels)


def _is_apart(start_us: Floats, end_us: Floats, parent: Ints, depth: Ints) -> bool:
    """Whether spans with one parent follow each other."""
    for _, places in grouped(depth[:-1]):
        overlaps = end_us[places[:-1]] > start_us[places[1:]]
        if (overlaps & (parent[places[:-1]] == parent[places[1:]]) & (parent[places[1:]] != len(start_us))).any():
            return False
    return True


def _parents_of_any(start_us: Floats, end_us: Floats, slices: dict[int, slice]) -> tuple[Ints, Ints]:
    """As ``_parents``, for spans that overlap without nesting."""
    nothing = len(start_us)
    parents, depths = [nothing] * (nothing + 1), [0] * nothing + [-1]
    starts, ends = start_us.tolist(), end_us.tolist()
    for part in slices.values():
        is_open: list[int] = []
        for place in range(part.start, part.stop):
            while is_open and ends[is_open[-1]] <= starts[place]:
                is_open.pop()
            if is_open:
                parents[place] = is_open[-1]
                depths[place] = depths[is_open[-1]] + 1
            is_open.append(place)
    return np.array(parents, np.int64), np.array(depths, np.int64)


def _far(parent: Ints, depth: Ints, end_us: Floats) -> tuple[Ints, Floats]:
    """For each place an ancestor farther up, and the last end of those above the place up to that ancestor."""
    far = np.full(len(parent), len(parent) - 1)
    reach_us = np.full(len(parent), np.inf)
    for _, places in grouped(depth[:-1]):
        above = parent[places]
        next_far = far[above]
        is_even = depth[above] - depth[next_far] == depth[next_far] - depth[far[next_far]]
        far[places] = np.where(is_even, far[next_far], above)
        beyond_us = np.maximum(reach_us[above], reach_us[next_far])
        reach_us[places] = np.maximum(end_us[above], np.where(is_even, beyond_us, -np.inf))
    return far, reach_us
