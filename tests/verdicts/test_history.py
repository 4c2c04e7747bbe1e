"""A change point is where a level ends, and neither noise nor a slow drift hides or makes one."""

from __future__ import annotations

import pytest

from bagel_perf.records.results import Delta
from bagel_perf.report.html.history import Point, change_points


def points(*intervals: tuple[float, float] | None) -> list[Point]:
    return [
        Point(
            number=number,
            delta=Delta(
                case="256x256",
                stage="dit",
                reference="baseline",
                candidate="fused",
                delta_pct=0.0 if interval is None else sum(interval) / 2,
                ci_pct=interval,
                num_pairs=10,
                verdict="improved",
            ),
        )
        for number, interval in enumerate(intervals)
    ]


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([(-5, -3), (-4, -2), (-9, -7), (-9, -8)], [None, False, True, False]),
        ([(-5, -3), (-3, -1)], [None, False]),
        # Each touches the one before, and the third has left the level for good.
        ([(0, 2), (1.5, 3.5), (3, 5), (4.5, 6.5)], [None, False, True, False]),
        # One odd result moves the level little.
        ([(0, 2), (0, 2), (1, 9), (0, 2), (8, 9)], [None, False, False, False, True]),
        ([(0, 2), None, (5, 6)], [None, None, True]),
        ([None, (0, 2), (5, 6), (0, 2)], [None, None, True, True]),
        ([], []),
    ],
)
def test_a_level_ends_where_an_interval_leaves_it(
    intervals: list[tuple[float, float] | None], expected: list[bool | None]
) -> None:
    assert list(change_points(points(*intervals))) == expected
