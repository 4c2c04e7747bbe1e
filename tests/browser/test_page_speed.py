"""The page of a large trace is seen at once, and stays fluid while it is zoomed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bagel_perf.records.traces import MAX_SEGMENTS
from chromium import Browser

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
MAX_PAINT_MS, MIN_FRAMES = 500, 30
ATTEMPTS = 3
"""Something else may hold the machine for a moment; a page that is too slow is so each time."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As full as that of any larger trace: each lane has all the bars it may have."""
    sys.path.insert(0, str(BENCHMARKS))
    from page_speed import page_of
    from trace_speed import make_trace

    folder = tmp_path_factory.mktemp("large")
    make_trace(folder / "trace.json", 30_000_000)
    return page_of(folder / "trace.json", folder)


def test_first_paint_and_zoom_are_fast(browser: Browser, large: Path) -> None:
    from page_speed import measure

    found = []
    for _ in range(ATTEMPTS):
        found.append(measure(browser, large, seconds=2))
        if found[-1]["first_paint_ms"] < MAX_PAINT_MS and found[-1]["frames_a_second"] > MIN_FRAMES:
            break
    assert found[-1]["first_paint_ms"] < MAX_PAINT_MS and found[-1]["frames_a_second"] > MIN_FRAMES, found


def test_it_is_as_full_as_can_be_and_small(large: Path) -> None:
    from bagel_perf.traces.analyse import analyse
    from bagel_perf.traces.formats.reading import read_trace

    whole = analyse(read_trace(large.with_name("trace.json"))).lanes[0]
    assert len(whole.cpu) == len(whole.gpu) == len(whole.idle) == MAX_SEGMENTS
    assert large.stat().st_size < 3_000_000
