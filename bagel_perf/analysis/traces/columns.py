"""Columns that grow chunk by chunk, and numbers for names."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bagel_perf.analysis.traces.table import Floats, Ints

_Key = TypeVar("_Key", bound=Hashable)

Array = NDArray[Any]

# Recorders count nanoseconds. Rounded to them, times do not depend on the zero that they were counted from.
DIGITS_OF_US = 3


class Numbering(dict[_Key, int]):
    """A number for each key, in the order in which keys are first asked for."""

    def __missing__(self, key: _Key) -> int:
        number = self[key] = len(self)
        return number

    def of(self, keys: Iterable[_Key], num_keys: int = -1) -> Ints:
        """The numbers of many keys; faster if it is known how many."""
        return np.fromiter(map(self.__getitem__, keys), np.int64, num_keys)


class Columns:
    """Arrays of equal length by name, put together from chunks and sorted in the end.

    ``defaults`` are columns of integers that not every chunk has, with what they hold where they are missing.
    """

    def __init__(self, **defaults: int) -> None:
        self._chunks: list[dict[str, Array]] = []
        self._defaults = defaults

    def add(self, **columns: Array) -> None:
        """Appends rows."""
        num_rows = len(next(iter(columns.values())))
        if num_rows:
            missing = {name: value for name, value in self._defaults.items() if name not in columns}
            self._chunks.append(columns | {name: np.full(num_rows, value) for name, value in missing.items()})

    def any(self) -> bool:
        """Whether there are rows."""
        return bool(self._chunks)

    def column(self, name: str) -> Array:
        """All of one column so far."""
        return np.concatenate([np.empty(0), *(chunk[name] for chunk in self._chunks)])

    def scale(self, factor: float) -> None:
        """Multiplies all times."""
        for chunk in self._chunks:
            chunk["start_us"], chunk["end_us"] = chunk["start_us"] * factor, chunk["end_us"] * factor

    def least(self, name: str) -> float | None:
        """The smallest value of a column, None if there are no rows."""
        return min((float(chunk[name].min()) for chunk in self._chunks), default=None)

    def finish(self, types: Mapping[str, type], shift_us: float) -> dict[str, Array]:
        """The columns with times moved by ``-shift_us``, to whole nanoseconds, in the order that ``table`` promises.

        ``types`` are the columns and what they hold where there are no rows.
        """
        joined = {
            name: np.concatenate([chunk[name] for chunk in self._chunks]) if self._chunks else np.empty(0, kind)
            for name, kind in types.items()
        }
        self._chunks.clear()
        length_us = joined["end_us"] - joined["start_us"]
        # Up to 2**43 us a float64 is less than half a nanosecond off; lengths are exact.
        joined["start_us"] = np.round(joined["start_us"] - shift_us, DIGITS_OF_US)
        joined["end_us"] = np.round(joined["start_us"] + length_us, DIGITS_OF_US)
        order = parents_first(joined["start_us"], joined["end_us"])
        return joined if order is None else {name: column[order] for name, column in joined.items()}


def parents_first(start_us: Floats, end_us: Floats) -> Ints | None:
    """The order by rising start and then falling end; None if the rows stand in it already."""
    rising = np.diff(start_us)
    if (rising > 0).all() or ((rising >= 0).all() and (np.diff(end_us)[rising == 0] <= 0).all()):
        return None
    return np.lexsort((-end_us, start_us))


def grouped(keys: Ints) -> list[tuple[int, Ints]]:
    """Each distinct key with the rows that have it, rising; in time that does not grow with the number of keys."""
    if not len(keys):
        return []
    if keys[0] == keys[-1] and (keys == keys[0]).all():
        return [(int(keys[0]), np.arange(len(keys)))]
    small = keys.astype(np.int16) if keys.min() >= 0 and keys.max() <= np.iinfo(np.int16).max else keys
    order = np.argsort(small, kind="stable")  # by digits, and so in linear time, where keys are small
    cuts = np.flatnonzero(np.diff(keys[order])) + 1
    return [(int(keys[rows[0]]), rows) for rows in np.split(order, cuts)]
