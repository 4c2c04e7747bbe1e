"""Which spans enclose a moment of a thread, for many moments at once.

Spans of one thread nest. Those of equal depth do not overlap, so at each depth a binary search finds the only one that
can enclose a moment; no stack has to be walked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bagel_perf.analysis.traces.columns import grouped
from bagel_perf.analysis.traces.table import NONE, Floats, Ints, Spans


@dataclass(frozen=True, slots=True, kw_only=True)
class Nest:
    """The rows of a table of spans by thread and depth, outermost first; spans without length are left out."""

    spans: Spans
    levels_by_thread: dict[int, list[Ints]]

    @classmethod
    def of(cls, spans: Spans) -> Nest:
        """The nest of a table that is sorted as ``table`` promises."""
        levels_by_thread: dict[int, list[Ints]] = {}
        for thread, rows in grouped(spans.thread):
            mine = rows[spans.end_us[rows] > spans.start_us[rows]]
            ended = np.searchsorted(np.sort(spans.end_us[mine]), spans.start_us[mine], side="right")
            depth = np.arange(len(mine)) - ended
            levels_by_thread[thread] = [mine[of_depth] for _, of_depth in grouped(depth)]
        return cls(spans=spans, levels_by_thread=levels_by_thread)

    def enclosing(self, moments_us: Floats, thread: Ints) -> Ints:
        """Rows of the spans around each moment, [number of moments, depths], outermost first; NONE where none is."""
        num_levels = max(map(len, self.levels_by_thread.values()), default=0)
        found = np.full((len(moments_us), num_levels), NONE)
        for each, asked in grouped(thread):
            for level, candidates in enumerate(self.levels_by_thread.get(each, [])):
                place = np.searchsorted(self.spans.start_us[candidates], moments_us[asked], side="right") - 1
                row = candidates[np.maximum(place, 0)]
                encloses = (place >= 0) & (self.spans.end_us[row] >= moments_us[asked])
                found[asked[encloses], level] = row[encloses]
        return found

    def innermost(self, moments_us: Floats, thread: Ints) -> Ints:
        """Row of the innermost span around each moment, NONE where none is."""
        return last_of(self.enclosing(moments_us, thread))


def last_of(levels: Ints) -> Ints:
    """The last entry of each row that is not NONE, NONE where none is."""
    last = np.full(len(levels), NONE)
    for column in levels.T:
        last = np.where(column != NONE, column, last)
    return last


def first_of(levels: Ints) -> Ints:
    """The first entry of each row that is not NONE, NONE where none is."""
    return last_of(levels[:, ::-1])
