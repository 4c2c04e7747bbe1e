"""The tables of a trace: columns of what the host called and what the GPU did.

Times are float64 microseconds since the trace's first event; absolute ones would leave no digits for nanoseconds. Every
table is sorted by start, and by falling end where starts are equal, so that a parent stands before its child. Columns
grow chunk by chunk, and hold numbers for names.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

_Column = TypeVar("_Column", bound=NDArray[Any])

NONE = -1

KERNEL, MEMCPY, MEMSET, GRAPH = range(4)
OTHER_COPY, HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = range(4)

WINDOW_NAME = "bagel_perf.window"
STEP_PREFIX = "ProfilerStep"
MARKER_PREFIX = "bagel_perf.wait "


def at_rows(column: _Column, rows: Ints) -> _Column:
    """The column at some rows, with anything where a row is NONE; unlike indexing it allows a column without rows."""
    return column[rows] if len(column) else np.zeros(rows.shape, column.dtype)  # type: ignore[return-value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Intervals of host threads; ``thread`` and ``name`` are numbers into ``Trace.threads`` and ``Trace.names``."""

    start_us: Floats
    end_us: Floats
    thread: Ints
    name: Ints

    def __len__(self) -> int:
        return len(self.start_us)

    def where(self, rows: Mask | Ints) -> Spans:
        """The chosen rows, in the order in which they are named."""
        return Spans(
            start_us=self.start_us[rows], end_us=self.end_us[rows], thread=self.thread[rows], name=self.name[rows]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames(Spans):
    """Functions of Python; ``caller`` is the name ``file:line`` of the line that called it, NONE where not recorded."""

    caller: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Calls of the runtime and driver API. ``correlation`` is NONE where the trace has none.

    ``site`` is a number into ``Trace.sites``, for formats that keep the stack of a call; else NONE.
    """

    start_us: Floats
    end_us: Floats
    thread: Ints
    name: Ints
    correlation: Ints
    site: Ints

    def __len__(self) -> int:
        return len(self.start_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activities:
    """What the GPU did. ``kind`` is KERNEL, MEMCPY, MEMSET or GRAPH (a whole replay recorded as one interval).

    ``copy`` is the direction of a MEMCPY, ``pageable`` whether one side of it is pageable host memory.
    """

    start_us: Floats
    end_us: Floats
    device: Ints
    stream: Ints
    kind: Ints
    name: Ints
    correlation: Ints
    num_bytes: Ints
    copy: Ints
    pageable: Mask

    def __len__(self) -> int:
        return len(self.start_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Syncs:
    """The GPU side's record that a host thread waited; waits of one stream for another are left out."""

    start_us: Floats
    end_us: Floats
    name: Ints
    correlation: Ints

    def __len__(self) -> int:
        return len(self.start_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSite:
    """A line of source; ``line`` is 0 where unknown."""

    file: str
    line: int
    function: str


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
