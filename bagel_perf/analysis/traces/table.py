"""The tables of a trace: columns of what the host called and what the GPU did.

Times are float64 microseconds since the trace's first event; absolute ones would leave no digits for nanoseconds.
Every table is sorted by start, and by falling end where starts are equal, so that a parent stands before its child.
"""

from __future__ import annotations

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
