"""Unions of intervals, and few intervals in place of many."""

from __future__ import annotations

import numpy as np

from bagel_perf.analysis.traces.table import Floats, Ints


def union(start_us: Floats, end_us: Floats) -> tuple[Floats, Floats]:
    """The union of intervals as disjoint ones, rising."""
    if not len(start_us):
        return np.empty(0), np.empty(0)
    order = np.argsort(start_us, kind="stable")
    start_us, reach_us = start_us[order], np.maximum.accumulate(end_us[order])
    opens = np.concatenate([[True], start_us[1:] > reach_us[:-1]])
    closes = np.concatenate([opens[1:], [True]])
    return start_us[opens], reach_us[closes]


def covered_us(start_us: Floats, end_us: Floats, from_us: Floats, to_us: Floats) -> Floats:
    """How much of each stretch a union of intervals covers."""
    if not len(start_us):
        return np.zeros(len(from_us))
    edges_us = np.column_stack([start_us, end_us]).reshape(-1)
    lengths_us = end_us - start_us
    so_far_us = np.column_stack([np.cumsum(lengths_us) - lengths_us, np.cumsum(lengths_us)]).reshape(-1)
    return np.interp(to_us, edges_us, so_far_us) - np.interp(from_us, edges_us, so_far_us)


def merged(start_us: Floats, end_us: Floats, max_segments: int) -> Ints:
    """The group of each of some disjoint, rising intervals when the narrowest gaps between them are closed.

    There are at most ``max_segments`` groups, numbered from 0.
    """
    if len(start_us) <= max_segments:
        return np.arange(len(start_us))
    gap_us = start_us[1:] - end_us[:-1]
    kept = np.zeros(len(gap_us), np.int64)
    kept[np.argsort(-gap_us, kind="stable")[: max_segments - 1]] = 1
    return np.concatenate([[0], np.cumsum(kept)])
