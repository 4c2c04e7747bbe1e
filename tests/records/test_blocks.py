"""Rounds are shared out without a gap, a few more to some than to others."""

from __future__ import annotations

import pytest

from bagel_perf.records.plans import blocks


@pytest.mark.parametrize(
    ("num_rounds", "num_processes", "expected"),
    [
        (6, 3, ((0, 2), (2, 4), (4, 6))),
        (8, 3, ((0, 2), (2, 5), (5, 8))),
        (1, 3, ((0, 1),)),
        (5, 1, ((0, 5),)),
    ],
)
def test_each_round_is_in_one_share(num_rounds: int, num_processes: int, expected: tuple[tuple[int, int], ...]) -> None:
    assert blocks(num_rounds, num_processes) == expected


@pytest.mark.parametrize("num_rounds", range(1, 40))
def test_shares_are_alike_and_none_is_empty(num_rounds: int) -> None:
    shares = blocks(num_rounds, 3)
    lengths = [stop - start for start, stop in shares]
    assert sum(lengths) == num_rounds and max(lengths) - min(lengths) <= 1 and min(lengths) > 0
