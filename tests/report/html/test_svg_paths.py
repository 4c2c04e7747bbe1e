"""A path in fewer characters draws the same."""

from __future__ import annotations

import re

import pytest

from bagel_perf.report.html.svg import compact


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("M 1 2 \nL 5 2 \nL 5 8.004 \nL 1 8.004 \nL 1 2 \nz\n", "M1 2H5V8H1z"),
        ("M 1.50 2 \nL 5 2 \nL 1.5 2 \n", "M1.5 2H5H1.5"),
        ("M 0 0 \nL 3 4 \nz\nM 7 7 \nL 7 9", "M0 0L3 4zM7 7V9"),
        ("M 0 0 \nL 0.001 0.001 \nL 2 0", "M0 0H2"),
        ("M -0.001 1e-9 \nL 1 0", "M0 0H1"),
        ("M 1.23456 2 C 1 2 3.98765 4 5 6", "M 1.23 2 C 1 2 3.99 4 5 6"),
        ("M 1 1\nL 2 2\nL 1 1\nM 3 3\nL 4 4\nL 3 3\nL 5 5", "M1 1L2 2L1 1M3 3L4 4L3 3L5 5"),
    ],
)
def test_the_same_points_in_fewer_characters(path: str, short: str) -> None:
    assert compact(path) == short


def test_many_bars_keep_their_corners() -> None:
    bars = [(x / 3, x / 3 + 0.25) for x in range(100)]
    path = "".join(f"M {a:.6f} 1 \nL {b:.6f} 1 \nL {b:.6f} 9 \nL {a:.6f} 9 \nL {a:.6f} 1 \nz\n" for a, b in bars)
    found = re.findall(r"M([\d.]+) 1H([\d.]+)V9H\1z", compact(path))
    assert [(float(a), float(b)) for a, b in found] == [(round(a, 2), round(b, 2)) for a, b in bars]
    assert len(compact(path)) < len(path) / 2
