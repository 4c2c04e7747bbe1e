"""The spans around a moment are those that a search of all spans finds, however many and however deep."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from bagel_perf.traces.nesting import MAX_LEVELS, Nest
from bagel_perf.traces.tables import NONE, Ints, Spans

Row = tuple[float, float, int]


def spans_of(rows: list[Row]) -> Spans:
    rows = sorted(rows, key=lambda row: (row[0], -row[1]))
    start_us, end_us, thread = (np.array(column) for column in zip(*rows, strict=True))
    return Spans(
        start_us=start_us.astype(np.float64), end_us=end_us.astype(np.float64), thread=thread, name=np.arange(len(rows))
    )


def nested(rng: random.Random, begin: float, end: float, thread: int, depth: int = 0) -> list[Row]:
    found: list[Row] = []
    while depth < 6:
        begin += rng.random() * 5
        stop = begin + rng.random() * 20
        if stop >= end:
            break
        found += [(begin, stop, thread), *nested(rng, begin + 0.01, stop - 0.01, thread, depth + 1)]
        begin = stop
    return found


def overlapping(rng: random.Random, thread: int) -> list[Row]:
    begins = [rng.random() * 50 for _ in range(rng.randint(1, 30))]
    return [(begin, begin + rng.random() * rng.choice((0, 1, 10, 40)), thread) for begin in begins]


def around(spans: Spans, moment_us: float, thread: int) -> list[int]:
    encloses = (spans.start_us <= moment_us) & (spans.end_us >= moment_us) & (spans.end_us > spans.start_us)
    return np.flatnonzero(encloses & (spans.thread == thread)).tolist()


def known(levels: Ints) -> list[list[int]]:
    return [[row for row in rows if row != NONE] for rows in levels.tolist()]


@pytest.mark.parametrize("seed", range(40))
def test_the_spans_around_a_moment_are_all_that_there_are(seed: int) -> None:
    rng = random.Random(seed)
    rows: list[Row] = [(0.0, 1.0, 9)]
    for thread in range(3):
        rows += nested(rng, 0, rng.random() * 200, thread) if seed % 2 else overlapping(rng, thread)
    spans = spans_of(rows)
    moments_us = np.array([rng.random() * 100 for _ in range(60)])
    threads = np.array([rng.randrange(4) for _ in range(60)])
    nest = Nest.of(spans)
    wanted = [around(spans, *pair) for pair in zip(moments_us.tolist(), threads.tolist(), strict=True)]
    assert known(nest.enclosing(moments_us, threads)) == wanted
    assert nest.innermost(moments_us, threads).tolist() == [rows[-1] if rows else NONE for rows in wanted]
    if seed % 2:
        outer = nest.outermost(moments_us, threads, max_levels=2)
        assert known(outer) == [rows[:2] for rows in wanted]


def test_of_spans_by_the_thousand_the_outer_and_the_inner_ones_are_kept_in_linear_time() -> None:
    depth = 20_000
    spans = spans_of([(i, 2 * depth - i, 0) for i in range(depth)])
    moments_us = np.arange(depth, dtype=np.float64) + 0.5
    thread = np.zeros(depth, np.int64)
    begun_s = time.perf_counter()
    nest = Nest.of(spans)
    levels = nest.enclosing(moments_us, thread)
    assert nest.innermost(moments_us, thread).tolist() == list(range(depth))
    assert nest.outermost(moments_us, thread, 3)[5:].tolist() == [[0, 1, 2]] * (depth - 5)
    assert levels.shape == (depth, MAX_LEVELS)
    half = MAX_LEVELS // 2
    assert levels[-1].tolist() == [*range(half), *range(depth - half, depth)]
    assert time.perf_counter() - begun_s < 20  # with a column for every depth it took minutes


def test_ranges_that_overlap_in_a_long_chain_do_not_hide_what_is_open() -> None:
    spans = spans_of([(10 * i, 10 * i + 15, 0) for i in range(5000)])
    moments_us = np.array([10 * 4000 + 2.0, 10 * 4000 + 7.0])
    nest = Nest.of(spans)
    assert known(nest.enclosing(moments_us, np.zeros(2, np.int64))) == [[3999, 4000], [4000]]
    assert known(nest.outermost(moments_us, np.zeros(2, np.int64), 12)) == [[3999, 4000], [4000]]


def test_a_table_without_spans_encloses_nothing() -> None:
    nothing = np.empty(0)
    spans = Spans(start_us=nothing, end_us=nothing, thread=nothing.astype(int), name=nothing.astype(int))
    nest = Nest.of(spans)
    assert nest.innermost(np.array([1.0]), np.array([0])).tolist() == [NONE]
    assert nest.enclosing(np.array([1.0]), np.array([0])).shape == (1, 0)
