"""Calls are given to the thread of the operator that they name."""

from __future__ import annotations

import numpy as np

from bagel_perf.traces.formats.assembly import Numbered, threads_of_calls
from bagel_perf.traces.tables import Spans

EARLY, LATE, MAIN = 1, 2, 3


def spans(*rows: tuple[float, float, int, int]) -> Numbered:
    """Rows of start, end, thread, number."""
    start, end, thread, number = (np.array(column) for column in zip(*rows, strict=True))
    of_float = {"start_us": start.astype(float), "end_us": end.astype(float)}
    return Numbered(Spans(**of_float, thread=thread, name=np.zeros(len(rows), np.int64)), number)


def mended(calls: list[tuple[float, int, int]], *around: Numbered) -> list[int]:
    """Threads after mending, for calls of start, thread, number."""
    start, thread, number = zip(*calls, strict=True)
    found = threads_of_calls(np.array(start, float), np.array(thread), np.array(number), around)
    return [int(each) for each in found]


OPS = spans((0, 10, EARLY, 5), (20, 30, LATE, 6), (21, 29, MAIN, 7), (40, 50, LATE, 8))


def test_a_call_belongs_to_the_thread_of_the_operator_it_names() -> None:
    assert mended([(1, EARLY, 5), (22, EARLY, 6), (23, MAIN, 7), (41, EARLY, 8)], OPS) == [EARLY, LATE, MAIN, LATE]


def test_a_call_outside_operators_goes_with_the_call_before_it() -> None:
    calls = [(0.5, EARLY, 0), (1, EARLY, 5), (15, EARLY, 0), (22, EARLY, 6), (35, EARLY, 0), (36, MAIN, 0)]
    assert mended(calls, OPS) == [EARLY, EARLY, EARLY, LATE, LATE, MAIN]


def test_a_number_that_two_spans_share_or_that_lies_elsewhere_in_time_tells_nothing() -> None:
    shared = spans((20, 30, LATE, 6), (60, 70, MAIN, 6))
    assert mended([(22, EARLY, 6), (23, MAIN, 0)], shared) == [EARLY, MAIN]
    assert mended([(90, EARLY, 6), (91, MAIN, 0)], OPS) == [EARLY, MAIN]


def test_annotations_tell_as_much_as_operators() -> None:
    assert mended([(22, EARLY, 9), (23, MAIN, 0)], OPS, spans((20, 30, LATE, 9))) == [LATE, MAIN]
