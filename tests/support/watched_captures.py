"""Watches the entries of a body for what prevents a CUDA graph, and looks at what was found."""

from __future__ import annotations

from collections.abc import Callable

from bagel_perf.records.blockers import Blocker, CaptureReport
from bagel_perf.syncs import region, watch_capture

Body = Callable[[int], object]


def watched(body: Body, num_entries: int = 4) -> CaptureReport:
    with watch_capture("step") as watch:
        for number in range(num_entries):
            with region("step"):
                body(number)
    return watch.report("a loop")


def kinds(report: CaptureReport) -> list[str]:
    return [each.kind for each in report.blockers]


def only(report: CaptureReport) -> Blocker:
    (blocker,) = report.blockers
    return blocker
