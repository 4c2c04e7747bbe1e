"""A trace into a report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bagel_perf.analysis.traces.apis import Api
from bagel_perf.analysis.traces.caveats import is_idle_reliable, notes, warnings
from bagel_perf.analysis.traces.device_times import device_times, launch_delays, queue_lengths, stream_times
from bagel_perf.analysis.traces.findings import Findings, examine
from bagel_perf.analysis.traces.gap_rows import culprits, naming_of, part_names, worst_gaps
from bagel_perf.analysis.traces.lanes import lanes
from bagel_perf.analysis.traces.launches import num_launches
from bagel_perf.analysis.traces.phases import phases
from bagel_perf.analysis.traces.prices import Prices
from bagel_perf.analysis.traces.region_times import region_times
from bagel_perf.analysis.traces.sites import syncs_by_kind, wait_sites
from bagel_perf.analysis.traces.step_times import step_times
from bagel_perf.analysis.traces.table import KERNEL, NONE
from bagel_perf.analysis.traces.trace import Trace
from bagel_perf.analysis.traces.unknown import without_unknown
from bagel_perf.schema.traces import KernelTime, TraceReport, TraceSource


def analyse(trace: Trace) -> TraceReport:
    """Waits, launches, busy and idle time of a trace, in total, by region, by place and by gap; nothing is cut."""
    findings = examine(trace)
    return report_of(findings, Prices(findings))


def report_of(findings: Findings, prices: Prices, site_of_marker: Mapping[int, int] | None = None) -> TraceReport:
    """The findings summed up; ``shortened`` makes lists of them that can be shown whole.

    ``site_of_marker`` says for the harness's own markers which of its sites their waits belong to.
    """
    trace, waits, idle = findings.trace, findings.waits, findings.idle
    has_gpu = findings.has_gpu
    idle_ms = {name: time_us / 1e3 for name, time_us in idle.by_cause_us().items()} if has_gpu else {}
    allocator_calls, allocator_ms = _allocator(findings)
    pageable_copies, pageable_copy_ms = _pageable_copies(findings)
    naming, is_reliable = naming_of(findings), has_gpu and is_idle_reliable(findings)
    names = part_names(findings, naming)
    report = TraceReport(
        source=_source(trace),
        window_ms=findings.window.length_us / 1e3,
        host_syncs=len(waits),
        launches=num_launches(trace, findings.launches, findings.window),
        graph_launches=findings.launches.num_graph_launches,
        blocked_ms=float(waits.blocked_us.sum()) / 1e3,
        gpu_busy_ms=sum(idle.busy.busy_us) / 1e3 if has_gpu else None,
        gpu_idle_ms=sum(idle_ms.values()) if has_gpu else None,
        idle_by_cause_ms=idle_ms,
        lost_gpu_ms=float(idle.lost_by_wait_us.sum()) / 1e3 if has_gpu else None,
        price_ms=prices.of(range(len(waits))) if prices.num_affordable else None,
        is_idle_reliable=is_reliable,
        syncs_by_kind=syncs_by_kind(waits.kind),
        allocator_calls=allocator_calls,
        allocator_ms=allocator_ms,
        pageable_copies=pageable_copies,
        pageable_copy_ms=pageable_copy_ms,
        stream_waits=trace.num_stream_waits,
        profiler_syncs=waits.num_profiler_syncs,
        unmatched_markers=len(waits.unmatched_markers),
        devices=device_times(findings),
        sites=wait_sites(findings, prices),
        regions=region_times(findings),
        gaps=worst_gaps(findings, naming),
        kernels=_kernels(findings),
        lanes=lanes(findings, site_of_marker or {}),
        captured_launches=findings.launches.num_captured,
        launches_without_work=findings.launches.num_without_work if has_gpu else None,
        phases=phases(findings, names),
        steps=step_times(findings, knows_idle=is_reliable),
        culprits=culprits(findings, names),
        streams=stream_times(findings),
        queues=queue_lengths(findings),
        launch_delays=launch_delays(findings),
        warnings=warnings(findings),
        notes=notes(findings) + _unpriced(findings, prices),
    )
    return without_unknown(report, findings)


def _source(trace: Trace) -> TraceSource:
    source = trace.source
    return TraceSource(
        format=source.format,
        file=source.file,
        num_bytes=source.num_bytes,
        num_events=source.num_events,
        versions=dict(source.versions),
        has_stacks=trace.has_stacks,
    )


def _allocator(findings: Findings) -> tuple[int, float]:
    """Calls of the allocator in the window and the time in them; they may wait, and are counted apart."""
    trace, window = findings.trace, findings.window
    chosen = trace.apis == Api.ALLOCATOR
    chosen &= ~trace.inside_another(chosen)
    chosen &= (trace.calls.start_us >= window.start_us) & (trace.calls.start_us <= window.end_us)
    return int(chosen.sum()), float((trace.calls.end_us - trace.calls.start_us)[chosen].sum()) / 1e3


def _pageable_copies(findings: Findings) -> tuple[int, float]:
    """Asynchronous copies of pageable memory that no wait follows, and the time that their calls held the host."""
    trace, window = findings.trace, findings.window
    activity = trace.activity_of_call
    copies = np.flatnonzero((trace.apis == Api.COPY_ASYNC) & (activity != NONE))
    copies = copies[trace.activities.pageable[activity[copies]]]
    copies = copies[~np.isin(activity[copies], findings.waits.copy)]
    start_us = trace.calls.start_us[copies]
    copies = copies[(start_us >= window.start_us) & (start_us <= window.end_us)]
    return len(copies), float((trace.calls.end_us - trace.calls.start_us)[copies].sum()) / 1e3


def _kernels(findings: Findings) -> tuple[KernelTime, ...]:
    activities, window = findings.trace.activities, findings.window
    inside = (activities.start_us >= window.start_us) & (activities.start_us <= window.end_us)
    rows = np.flatnonzero(inside & (activities.kind == KERNEL))
    counts = np.bincount(activities.name[rows])
    total_us = np.bincount(activities.name[rows], weights=(activities.end_us - activities.start_us)[rows])
    found = [
        KernelTime(name=findings.trace.names[name], count=int(counts[name]), total_ms=float(total_us[name]) / 1e3)
        for name in np.flatnonzero(counts)
    ]
    return tuple(sorted(found, key=lambda kernel: (-kernel.total_ms, kernel.name)))


def _unpriced(findings: Findings, prices: Prices) -> tuple[str, ...]:
    """Why there are no prices."""
    if not findings.has_gpu or not len(findings.waits):
        return ()
    if not prices.num_affordable:
        return (f"no prices: {len(findings.trace.calls)} calls are too many to replay; record a shorter stretch",)
    return (f"no prices: {prices.doubt}",) if prices.doubt else ()
