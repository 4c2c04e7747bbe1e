"""Unions of intervals, and few intervals in place of many."""

from __future__ import annotations

import numpy as np

from bagel_perf.analysis.traces.table import NONE, Floats, Ints


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
    kept[largest(gap_us, max_segments - 1)] = 1
    return np.concatenate([[0], np.cumsum(kept)])


def cut(start_us: Floats, end_us: Floats, edges_us: Floats) -> tuple[Ints, Floats, Floats]:
    """Splits intervals at those of the rising ``edges_us`` that lie inside them: row, start and end of each piece."""
    first = np.searchsorted(edges_us, start_us, side="right")
    num_inside = np.maximum(np.searchsorted(edges_us, end_us, side="left") - first, 0)
    row = np.repeat(np.arange(len(start_us)), num_inside + 1)
    last = np.cumsum(num_inside + 1) - 1
    is_last = np.zeros(len(row), np.bool_)
    is_last[last] = True
    ordinal = np.arange(len(row)) - np.repeat(last - num_inside, num_inside + 1)
    piece_end_us = end_us[row].astype(np.float64)
    inner = np.flatnonzero(~is_last)
    piece_end_us[inner] = edges_us[first[row[inner]] + ordinal[inner]]
    piece_start_us = np.concatenate([start_us[:1], piece_end_us[:-1]])
    piece_start_us[ordinal == 0] = start_us
    return row, piece_start_us, piece_end_us


def holding(start_us: Floats, end_us: Floats, moments_us: Floats) -> Ints:
    """The interval of disjoint, rising ones around each moment, NONE where none is."""
    if not len(start_us):
        return np.full(len(moments_us), NONE)
    place = np.searchsorted(start_us, moments_us, side="right") - 1
    return np.where((place >= 0) & (end_us[np.maximum(place, 0)] > moments_us), place, NONE)


def largest(values: Floats, number: int) -> Ints:
    """The places of the largest values, largest first, the earlier one first where they are equal."""
    places = np.arange(len(values))
    if 0 < number < len(values):
        least = np.partition(values, len(values) - number)[len(values) - number]
        places = np.flatnonzero(values >= least)
    found: Ints = places[np.argsort(-values[places], kind="stable")][:number]
    return found
