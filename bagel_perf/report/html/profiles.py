"""Reports of ``syncs`` beside a result: read, ordered, and refused where a profiled run's lanes cannot be drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bagel_perf.records.errors import UsageError
from bagel_perf.records.results import Result, is_result
from bagel_perf.records.store import unpacked_json
from bagel_perf.records.syncs import SCHEMA, SyncReport
from bagel_perf.records.traces import LANES, Lanes, Segment
from bagel_perf.report.html.source import cleaned
from bagel_perf.verdicts.plausible import check_numbers

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
    if lanes.sites and len(lanes.sites) != len(lanes.syncs):
        yield f"lane syncs: {len(lanes.sites)} sites of {len(lanes.syncs)} segments"
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


SIZE_MARK = " at "


def variant_of(report: SyncReport) -> str:
    """The variant, or the program, that a subject names."""
    head, mark, tail = report.subject.rpartition(SIZE_MARK)
    return head if mark else tail


def size_of(report: SyncReport) -> str:
    """The resolution that a subject names, "" for that of a program."""
    _, mark, tail = report.subject.rpartition(SIZE_MARK)
    return tail if mark else ""


def devices_of(report: SyncReport) -> set[str]:
    """Names of the devices that a profile tells."""
    return {each.name for each in (report.profile.devices if report.profile else ())} - {""}


def places_of(result: Result) -> set[tuple[str, str]]:
    """Variant and resolution of all that a profile of this result may be of."""
    return {(name, case) for name in result.named for case in result.cases}


def of_result(reports: Sequence[SyncReport], result: Result) -> list[SyncReport]:
    """Those of a variant, a resolution and a device of the result; a profile that names no device may be of any."""
    known, device = places_of(result), result.environment.device_name
    return [
        report
        for report in reports
        if (variant_of(report), size_of(report)) in known and devices_of(report) <= {device}
    ]


def ordered(reports: Sequence[SyncReport], result: Result) -> list[SyncReport]:
    """By resolution, and as the result orders the variants; others keep their order."""
    sizes, variants = [size_of(report) for report in reports], list(result.named)
    known = [size for size in result.cases if size in sizes]
    order = list(dict.fromkeys([*known, *sizes]))

    def rank(report: SyncReport) -> tuple[int, int]:
        name = variant_of(report)
        return order.index(size_of(report)), variants.index(name) if name in variants else len(variants)

    return sorted(reports, key=rank)


MAX_NAME = 4000
"""Characters of a string in a profile: names of kernels have more than those of a result."""


def report_in(path: Path) -> SyncReport | None:
    """The report of ``syncs`` in a file, gzipped or not; None where it is something else.

    Raises ``UsageError`` with the file where it is damaged, or has a profile that cannot be drawn.
    """
    try:
        data = _json(path)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            return None
        report = SyncReport.from_json(cleaned(data, MAX_NAME))
        if report.profile is not None:
            check_profile(report)
    except RecursionError as problem:
        raise UsageError("file is nested too deeply", value=path, remedy="give a file of compare or syncs") from problem
    except (UsageError, OverflowError) as problem:
        raise UsageError("profile is not usable", value=path, allowed=str(problem)) from problem
    return report


def _json(path: Path) -> Any:
    """None where there is no file or no JSON; ``UsageError`` where something gzipped cannot be unpacked."""
    try:
        if is_result(path):  # its own reader parses it
            return None
        return unpacked_json(path)
    except UsageError:
        raise
    except (OSError, ValueError):
        return None
