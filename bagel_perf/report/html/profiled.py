"""Profiled runs of ``syncs`` beside a result: what each of them ran, and in which order they are shown."""

from __future__ import annotations

from collections.abc import Sequence

from bagel_perf.schema.results import Result
from bagel_perf.schema.syncs import SyncReport

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
