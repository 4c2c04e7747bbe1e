"""Where a change of latency became another one, over results in the order of their time."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bagel_perf.schema.results import Delta


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One cell of the result with this number in a history."""

    number: int
    delta: Delta


def change_points(points: Sequence[Point]) -> Iterator[bool | None]:
    """For each point whether a new level begins there; None for the first, and where an interval is missing.

    A level has as its interval the medians of the bounds of its points, so that neither one odd result decides nor many
    small steps in one direction go unseen. A point begins a new level where its interval has nothing in common with
    that, which errs on the side of no change.
    """
    level: list[tuple[float, float]] = []
    for point in points:
        interval = point.delta.ci_pct
        if interval is None or not level:
            yield None
        else:
            low, high = (statistics.median(bounds) for bounds in zip(*level, strict=True))
            has_moved = interval[0] > high or interval[1] < low
            level = [] if has_moved else level
            yield has_moved
        if interval is not None:
            level.append(interval)
