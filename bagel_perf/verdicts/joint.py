"""Which of many changes are shown, with one error for all of them together.

An interval is for its cell by itself: of four equal variants one would be called slower in every fifth run. So verdicts
take a joint test as well: the largest t over all cells is held to its own distribution under exchanged arms, in steps
(Westfall and Young, Resampling-Based Multiple Testing, 1993, section 2.8). Between two arms that are equal the sign of
a process's change is a coin, the same coin for all cells of the process; between processes of two results the label is
exchangeable. So no shape of the noise is assumed, cells may depend on each other in any way, and two cells that
are the same cost no more than one.

Suffixes: A arrangements of signs or labels, U processes, C cells.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bagel_perf.verdicts.statistics import MIN_PROCESSES, ByProcess

Floats = NDArray[np.float64]
Cell = TypeVar("Cell", bound=Hashable)
"""Whatever names a cell."""

ALPHA = 0.045
"""A little under the 5% that is claimed: luck that is skewed makes the signs of four candidates not quite one coin."""
MAX_ARRANGEMENTS = 4096
"""All exchanges are tried up to so many, as of 12 processes; beyond, so many drawn from a fixed seed."""
MAX_NUMBERS = 2_000_000
"""Of arrangements times processes, which lie in memory at once."""
ROUNDING = 1e-9


def shown(cells: Mapping[Cell, ByProcess], alpha: float = ALPHA) -> frozenset[Cell]:
    """The cells whose change is not 0, on either side; no more than ``alpha`` of all calls name one that is 0.

    Each cell has a value of every process in which it was measured; with fewer than six it is never shown.
    """
    return _stepped(cells, lambda values_UC, units: np.abs(_sign_statistics(values_UC, units)), alpha)


def shown_above(cells: Mapping[Cell, ByProcess], alpha: float = ALPHA) -> frozenset[Cell]:
    """The cells whose change is above 0; below 0 none is named."""
    return _stepped(cells, _sign_statistics, alpha)


def shown_above_apart(cells: Mapping[Cell, tuple[ByProcess, ByProcess]], alpha: float = ALPHA) -> frozenset[Cell]:
    """The cells whose second values lie above their first ones, which were measured in other processes."""
    labelled = {
        key: {**{-1 - number: x for number, x in first.items()}, **second}
        for key, (first, second) in cells.items()
        if min(len(first), len(second)) >= MIN_PROCESSES
    }
    return _stepped(labelled, _label_statistics, alpha)


def _stepped(
    cells: Mapping[Cell, ByProcess], statistics_of: Callable[[Floats, Sequence[int]], Floats], alpha: float
) -> frozenset[Cell]:
    """Steps from the largest statistic down; each is held to the largest of those that are left."""
    keys = [key for key, values in cells.items() if len(values) >= MIN_PROCESSES]
    if not keys:
        return frozenset()
    alpha = min(alpha, ALPHA)
    units = sorted({unit for key in keys for unit in cells[key]})
    values_UC = np.array([[cells[key].get(unit, math.nan) for key in keys] for unit in units])
    statistics_AC = statistics_of(values_UC, units)
    found: list[Cell] = []
    left = np.ones(len(keys), dtype=bool)
    for cell in np.argsort(-statistics_AC[0], kind="stable"):
        own = statistics_AC[0, cell]
        largest_A = statistics_AC[:, left].max(axis=1)
        if own <= 0 or np.mean(largest_A >= own - abs(own) * ROUNDING) > alpha:
            break
        found.append(keys[cell])
        left[cell] = False
    return frozenset(found)


def _sign_statistics(values_UC: Floats, units: Sequence[int]) -> Floats:
    """Student's t of each cell, for each choice of the processes' signs; the first is the data as it is."""
    signs_AU = _signs(len(units))
    number_C = np.sum(~np.isnan(values_UC), axis=0)
    plain_UC = np.nan_to_num(values_UC)
    scale_C = np.sqrt(number_C * np.sum(plain_UC**2, axis=0))
    share_AC = signs_AU @ plain_UC / np.where(scale_C > 0, scale_C, 1)  # of the largest sum, all with one sign: -1 to 1
    rest_AC = np.maximum(1 - share_AC**2, np.finfo(float).eps)
    statistics: Floats = share_AC * np.sqrt((number_C - 1) / rest_AC)
    return statistics


@cache
def _signs(number: int) -> Floats:
    if 2**number <= MAX_ARRANGEMENTS:
        return np.array([*itertools.product((1.0, -1.0), repeat=number)])
    draw = np.random.default_rng(0)
    return np.vstack([np.ones(number), draw.choice([1.0, -1.0], (_num_drawn(number), number))])


def _num_drawn(number: int) -> int:
    """How many arrangements of so many processes are drawn: fewer of thousands, and never too few for a verdict."""
    return max(min(MAX_ARRANGEMENTS, MAX_NUMBERS // number), 256) - 1


def _label_statistics(values_UC: Floats, units: Sequence[int]) -> Floats:
    """Student's t between both groups of each cell, for each choice of who is in the second."""
    second_AU = _labels(tuple(unit >= 0 for unit in units))
    has_UC, plain_UC = ~np.isnan(values_UC), np.nan_to_num(values_UC)
    means, squares, numbers = [], [], []
    for group_AU in (1 - second_AU, second_AU):
        number_AC = np.maximum(group_AU @ has_UC, 1)
        mean_AC = group_AU @ plain_UC / number_AC
        means.append(mean_AC)
        numbers.append(number_AC)
        squares.append(np.maximum(group_AU @ plain_UC**2 - number_AC * mean_AC**2, 0))
    pooled_AC = sum(squares) / np.maximum(sum(numbers) - 2, 1) * sum(1 / number_AC for number_AC in numbers)
    floor_C = np.finfo(float).eps * np.maximum(np.nanmax(values_UC**2, axis=0), np.finfo(float).tiny)
    statistics: Floats = (means[1] - means[0]) / np.sqrt(np.maximum(pooled_AC, floor_C))
    return statistics


@cache
def _labels(second_U: tuple[bool, ...]) -> Floats:
    number, chosen = len(second_U), sum(second_U)
    if math.comb(number, chosen) <= MAX_ARRANGEMENTS:
        own = tuple(unit for unit in range(number) if second_U[unit])
        groups: Iterable[tuple[int, ...]] = itertools.combinations(range(number), chosen)
        others = [group for group in groups if group != own]
        return np.array([[float(unit in group) for unit in range(number)] for group in (own, *others)])
    draw = np.random.default_rng(0)
    drawn = [draw.permutation(second_U) for _ in range(_num_drawn(number))]
    return np.array([second_U, *drawn], dtype=float)
