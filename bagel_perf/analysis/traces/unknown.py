"""Takes figures out of a report that its trace cannot tell: null is not 0."""

from __future__ import annotations

from msgspec.structs import replace

from bagel_perf.analysis.traces.findings import Findings
from bagel_perf.schema.traces import Lanes, TraceReport

MAX_ORPHANS_FOR_LOST = 0.5
"""With more of the GPU's work without its launch, idle time cannot be charged to waits."""


def without_unknown(report: TraceReport, findings: Findings) -> TraceReport:
    """The report with null for what a trace of these findings does not tell."""
    has_calls, has_gpu = len(findings.trace.calls) > 0, findings.has_gpu
    if findings.trace.source.num_unnamed_calls:
        report = _without_lost(_without_calls(report, knows_waits=False, knows_launches=False))
    elif not has_calls:
        report = _without_calls(report, knows_waits=len(findings.trace.syncs) > 0, knows_launches=has_gpu)
    if has_gpu and (not has_calls or findings.orphan_share > MAX_ORPHANS_FOR_LOST):
        report = _without_lost(report)
    return report if report.is_idle_reliable or not has_gpu else _without_idle(_without_lost(report))


def _without_calls(report: TraceReport, *, knows_waits: bool, knows_launches: bool) -> TraceReport:
    """The allocator's calls and copies are unknown, and waits and launches where no other rows tell of them."""
    report = replace(
        report,
        allocator_calls=None,
        allocator_ms=None,
        pageable_copies=None,
        pageable_copy_ms=None,
        launches=report.launches if knows_launches else None,
        regions=tuple(
            replace(region, launches=region.launches if knows_launches else None) for region in report.regions
        ),
        phases=tuple(replace(phase, launches=phase.launches if knows_launches else None) for phase in report.phases),
        launch_delays=(),
        queues=(),
        launches_without_work=None,
    )
    if knows_waits:
        return report
    return replace(
        report,
        host_syncs=None,
        blocked_ms=None,
        regions=tuple(replace(region, host_syncs=None, blocked_ms=None) for region in report.regions),
        phases=tuple(replace(phase, host_syncs=None) for phase in report.phases),
    )


def _without_lost(report: TraceReport) -> TraceReport:
    return replace(
        report,
        lost_gpu_ms=None,
        price_ms=None,
        sites=tuple(replace(site, lost_gpu_ms=None, price_ms=None) for site in report.sites),
        regions=tuple(replace(region, lost_gpu_ms=None) for region in report.regions),
        gaps=tuple(replace(gap, lost_gpu_ms=None) for gap in report.gaps),
    )


def _without_idle(report: TraceReport) -> TraceReport:
    return replace(
        report,
        gpu_idle_ms=None,
        idle_by_cause_ms={},
        devices=tuple(replace(device, idle_ms=None) for device in report.devices),
        regions=tuple(replace(region, gpu_idle_ms=None, idle_by_cause_ms={}) for region in report.regions),
        gaps=(),
        culprits=(),
        phases=tuple(replace(phase, gpu_idle_ms=None, idle_by_cause_ms={}, culprits=()) for phase in report.phases),
        streams=(),
        lanes=tuple(map(_without_idle_lane, report.lanes)),
    )


def _without_idle_lane(lanes: Lanes) -> Lanes:
    return replace(lanes, idle=(), shares={name: shares for name, shares in lanes.shares.items() if name != "idle"})
