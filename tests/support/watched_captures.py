"""Watches the entries of a body for what prevents a CUDA graph, and looks at what was found."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

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


def side_work(x: Tensor, *, forks: bool, joins: bool) -> Body:
    """Work on a side stream, which may fork off the current one before and join it after."""
    side = torch.cuda.Stream()

    def body(_: int) -> None:
        if forks:
            side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            x.mul_(1.5)
        if joins:
            torch.cuda.current_stream().wait_stream(side)

    return body
