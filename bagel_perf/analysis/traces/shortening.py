"""Keeps reports small enough to be shown whole, however large their traces are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from bagel_perf.schema.trace_differences import TraceDifference
from bagel_perf.schema.traces import RegionTime, TraceReport

MAX_SITES = 1000
MAX_REGIONS = 500
MAX_KERNELS = 1000
MAX_STEPS = 1000


def shortened(report: TraceReport) -> TraceReport:
    """The report with its longest lists cut, and a note for each cut."""
    difference = report.difference
    return replace(
        report,
        sites=report.sites[:MAX_SITES],
        regions=_most_telling(report.regions),
        kernels=report.kernels[:MAX_KERNELS],
        steps=report.steps[:MAX_STEPS],
        notes=report.notes + tuple(_cuts(report.sites, report.regions, report.kernels, report.steps)),
        difference=None if difference is None else _shortened(difference),
    )


def _shortened(difference: TraceDifference) -> TraceDifference:
    return replace(
        difference,
        syncs=difference.syncs[:MAX_SITES],
        regions=difference.regions[:MAX_REGIONS],
        kernels=difference.kernels[:MAX_KERNELS],
        notes=difference.notes + tuple(_cuts(difference.syncs, difference.regions, difference.kernels)),
    )


def _most_telling(regions: tuple[RegionTime, ...]) -> tuple[RegionTime, ...]:
    """At most ``MAX_REGIONS`` in their order; whatever is kept, its parents are."""
    if len(regions) <= MAX_REGIONS:
        return regions
    ranked = sorted(regions, key=lambda each: (-(each.lost_gpu_ms or 0), -(each.gpu_idle_ms or 0), -each.wall_ms))
    kept: set[tuple[str, ...]] = set()
    for region in ranked:
        lineage = {region.path[:depth] for depth in range(len(region.path) + 1)}
        if len(kept | lineage) > MAX_REGIONS:
            break
        kept |= lineage
    return tuple(region for region in regions if region.path in kept)


def _cuts(
    sites: Sequence[object], regions: Sequence[object], kernels: Sequence[object], steps: Sequence[object] = ()
) -> Iterator[str]:
    for what, rows, limit in (
        ("places that wait", sites, MAX_SITES),
        ("regions", regions, MAX_REGIONS),
        ("kernels", kernels, MAX_KERNELS),
        ("steps", steps, MAX_STEPS),
    ):
        if len(rows) > limit:
            yield f"of {len(rows)} {what} the first {limit} are listed"
