"""Whether the lanes of a profiled run can be drawn: segments in order inside their stretch of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bagel_perf.analysis.plausible import check_numbers
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.syncs import SyncReport
from bagel_perf.schema.traces import LANES, Lanes, Segment

TOLERANCE_MS = 1e-3
"""Times are rounded where they are written, each by itself."""


def check_profile(report: SyncReport) -> None:
    """Raises ``UsageError`` with the first number, region and lane that cannot be drawn."""
    check_numbers(report)
    for lanes in report.profile.lanes if report.profile else ():
        for problem in _problems(lanes, len(report.sites)):
            raise UsageError(f"region {lanes.region or 'of the whole window'}: {problem}")


def _problems(lanes: Lanes, num_sites: int) -> Iterator[str]:
    if lanes.start_ms > lanes.end_ms:
        yield f"ends at {lanes.end_ms:g} ms, before it begins at {lanes.start_ms:g}"
    for name in LANES:
        yield from (f"lane {name}: {problem}" for problem in _segments(getattr(lanes, name), lanes))
    if lanes.places and len(lanes.places) != len(lanes.syncs):
        yield f"lane syncs: {len(lanes.places)} places of {len(lanes.syncs)} segments"
    if not all(-1 <= place < num_sites for place in lanes.places):
        yield f"lane syncs: a place that is none of the {num_sites} sites"
    for name, shares in lanes.shares.items():
        yield from (f"lane {name}: {problem}" for problem in _shares(name, shares, lanes))


def _segments(segments: Sequence[Segment], lanes: Lanes) -> Iterator[str]:
    before = lanes.start_ms
    for number, (begin, end, _) in enumerate(segments):
        if begin > end:
            yield f"segment {number} ends at {end:g} ms, before it begins at {begin:g}"
        if begin < lanes.start_ms - TOLERANCE_MS or end > lanes.end_ms + TOLERANCE_MS:
            stretch = f"{lanes.start_ms:g} to {lanes.end_ms:g}"
            yield f"segment {number} of {begin:g} to {end:g} ms lies outside of the stretch of {stretch}"
        if begin < before - TOLERANCE_MS:
            yield f"segment {number} begins at {begin:g} ms, before the one in front of it ends at {before:g}"
        before = max(before, end)


def _shares(name: str, shares: Sequence[float], lanes: Lanes) -> Iterator[str]:
    if name not in LANES:
        yield f"shares of a lane that is none of {', '.join(LANES)}"
        return
    if len(shares) != len(getattr(lanes, name)):
        yield f"{len(shares)} shares of {len(getattr(lanes, name))} segments"
    if not all(0 <= share <= 1 for share in shares):
        yield "a share that is not from 0 to 1"
