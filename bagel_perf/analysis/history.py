"""Whether a change of latency is another one than in the result before."""

from __future__ import annotations

from dataclasses import dataclass

from bagel_perf.schema.results import Delta


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One cell of the result with this number in a history."""

    number: int
    delta: Delta


def moved(before: Point, after: Point) -> bool | None:
    """Whether the two intervals have nothing in common, which errs on the side of no change; None without both."""
    a, b = before.delta.ci_pct, after.delta.ci_pct
    if a is None or b is None:
        return None
    return a[1] < b[0] or b[1] < a[0]
