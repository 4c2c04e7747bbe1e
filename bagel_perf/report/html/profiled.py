"""Profiled runs of ``syncs`` beside a result: what each of them ran, and in which order they are shown."""

from __future__ import annotations

from collections.abc import Sequence

from bagel_perf.report.cells import resolutions
from bagel_perf.report.table import res_text
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


def ordered(reports: Sequence[SyncReport], result: Result) -> list[SyncReport]:
    """By resolution, and as the result orders the variants; others keep their order."""
    sizes, variants = [size_of(report) for report in reports], list(result.variants)
    known = [size for size in map(res_text, resolutions(result)) if size in sizes]
    order = list(dict.fromkeys([*known, *sizes]))

    def rank(report: SyncReport) -> tuple[int, int]:
        name = variant_of(report)
        return order.index(size_of(report)), variants.index(name) if name in variants else len(variants)

    return sorted(reports, key=rank)
