"""The line that is to blame most, for the head of the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bagel_perf.report.html.profiled import of_result, size_of, variant_of
from bagel_perf.report.html.sites import place_text
from bagel_perf.report.setup_rows import split_setup
from bagel_perf.report.table import counted
from bagel_perf.schema.results import Result
from bagel_perf.schema.runs import CountedRun, runs_of
from bagel_perf.schema.sites import Site
from bagel_perf.schema.syncs import SyncReport
from bagel_perf.schema.waits import HINTS


def culprit_lines(result: Result, reports: Sequence[SyncReport]) -> Iterator[str]:
    """Where the first variant waits most often at its largest resolution, and what lost its GPU most where profiled."""
    first = result.named[0]
    counts = runs_of(CountedRun, result.runs)
    runs = [run for run in counts if run.variant == first and split_setup(run.sites)[0]]
    if runs:
        yield _most_frequent(runs[-1])
    for report in of_result(reports, result):
        costly = max(split_setup(report.sites)[0], key=lambda site: site.lost_gpu_ms or 0.0, default=None)
        if variant_of(report) == first and costly is not None and costly.lost_gpu_ms:
            yield _most_costly(report, costly)


def _most_frequent(run: CountedRun) -> str:
    total = sum(site.count for site in run.sites)
    top = max(split_setup(run.sites)[0], key=lambda site: site.count)
    where = f"{run.variant} at {run.case}"
    return f"{where} waits {counted(total, 'time')}, most often ({top.count}) at {_named(top)}."


def _most_costly(report: SyncReport, site: Site) -> str:
    """Without a time, which a profiled run inflates as it does all times."""
    where = f"In its profiled run at {size_of(report)}{_inflation(report)}"
    return f"{where}, the GPU lost most through {counted(site.count, 'wait')} at {_named(site)}."


def _inflation(report: SyncReport) -> str:
    cost = report.instrument
    if cost is None or not cost.plain_wall_ms or not cost.watched_wall_ms:
        return ""
    return f" ({cost.watched_wall_ms / cost.plain_wall_ms:.1f} times as long as without the profiler)"


def _named(site: Site) -> str:
    code = f", {site.expressions[0]}" if site.expressions else ""
    return f"{place_text(site)}{code} ({HINTS[site.kind].label})"
