"""Makes a report of a trace: waits by place, those marked in a profile, kernels; small enough to be shown whole."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from bagel_perf.records.sites import KINDS, Kind, SyncSite
from bagel_perf.records.trace_differences import TraceDifference
from bagel_perf.records.traces import PATH_SEPARATOR, KernelTime, RegionTime, TraceReport, TraceSource, WaitSite
from bagel_perf.traces.caveats import is_idle_reliable, notes, warnings, without_unknown
from bagel_perf.traces.findings import Findings, examine
from bagel_perf.traces.gap_rows import culprits, naming_of, part_names, phases, worst_gaps
from bagel_perf.traces.lanes import lanes
from bagel_perf.traces.launches import num_launches
from bagel_perf.traces.replay import PredictedSavings
from bagel_perf.traces.tables import KERNEL, NONE, Ints
from bagel_perf.traces.times import device_times, launch_delays, queue_lengths, region_times, step_times, stream_times
from bagel_perf.traces.trace import Api, Trace, plain_name

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


MAX_PREDICTED = 12


def wait_sites(findings: Findings, savings: PredictedSavings) -> tuple[tuple[WaitSite, ...], Ints]:
    """The places that wait, by falling idle time caused, the first with predicted savings; and that of each wait."""
    waits, idle = findings.waits, findings.idle
    keys = np.column_stack([waits.kind, waits.outer_op, waits.inner_op, waits.site, waits.region, waits.name])
    distinct, first, place = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    counts = np.bincount(place, minlength=len(distinct))
    blocked_ms, lost_ms = (
        np.bincount(place, weights=values_us, minlength=len(distinct)) / 1e3
        for values_us in (waits.blocked_us, idle.lost_by_wait_us)
    )
    replayed = set(np.argsort(-lost_ms, kind="stable")[: min(MAX_PREDICTED, savings.num_affordable)].tolist())
    sites = [
        _site(
            findings,
            int(wait),
            count=int(counts[i]),
            blocked_ms=float(blocked_ms[i]),
            lost_gpu_ms=float(lost_ms[i]) if findings.has_gpu else None,
            predicted_saving_ms=savings.of(np.flatnonzero(place == i).tolist()) if i in replayed else None,
        )
        for i, wait in enumerate(first)
    ]
    order = sorted(range(len(sites)), key=lambda each: _rank(sites[each]))
    number = np.empty(len(sites), np.int64)
    number[order] = np.arange(len(sites))
    return tuple(sites[each] for each in order), number[place]


def syncs_by_kind(kinds: np.ndarray) -> dict[Kind, int]:
    """How many waits there are of each kind that occurs, the most frequent first."""
    counts = np.bincount(kinds, minlength=len(KINDS))
    order = np.argsort(-counts, kind="stable")
    return {KINDS[i]: int(counts[i]) for i in order if counts[i]}


def _site(
    findings: Findings,
    wait: int,
    *,
    count: int,
    blocked_ms: float,
    lost_gpu_ms: float | None,
    predicted_saving_ms: tuple[float, float] | None,
) -> WaitSite:
    """The place of a wait, with figures of all waits there."""
    waits, line = findings.waits, findings.site_of(wait)
    return WaitSite(
        kind=KINDS[int(waits.kind[wait])],
        file=line.file,
        line=line.line,
        function=line.function,
        region=PATH_SEPARATOR.join(findings.regions.paths[int(waits.region[wait])]),
        op=findings.op_of(wait),
        api=plain_name(findings.trace.names[int(waits.name[wait])]),
        count=count,
        blocked_ms=blocked_ms,
        lost_gpu_ms=lost_gpu_ms,
        predicted_saving_ms=predicted_saving_ms,
    )


def _rank(site: WaitSite) -> tuple[float | int | str, ...]:
    costs = (-(site.lost_gpu_ms or 0.0), -site.blocked_ms, -site.count)
    return (*costs, site.op, site.region, site.kind, site.api, site.file, site.line, site.function)


def analyse(trace: Trace) -> TraceReport:
    """Waits, launches, busy and idle time of a trace, in total, by region, by place and by gap; nothing is cut."""
    findings = examine(trace)
    return report_of(findings, PredictedSavings(findings))


def report_of(
    findings: Findings, savings: PredictedSavings, site_of_marker: Mapping[int, int] | None = None
) -> TraceReport:
    """The findings summed up; ``shortened`` makes lists of them that can be shown whole.

    ``site_of_marker`` says for our own markers which of its sites their waits belong to.
    """
    trace, waits, idle = findings.trace, findings.waits, findings.idle
    has_gpu = findings.has_gpu
    idle_ms = {name: time_us / 1e3 for name, time_us in idle.by_cause_us().items()} if has_gpu else {}
    allocator_calls, allocator_ms = _allocator(findings)
    pageable_copies, pageable_copy_ms = _pageable_copies(findings)
    naming, is_reliable = naming_of(findings), has_gpu and is_idle_reliable(findings)
    names = part_names(findings, naming)
    sites, site_of_wait = wait_sites(findings, savings)
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
        predicted_saving_ms=savings.of(range(len(waits))) if savings.num_affordable else None,
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
        sites=sites,
        regions=region_times(findings),
        gaps=worst_gaps(findings, naming),
        kernels=_kernels(findings),
        lanes=lanes(findings, site_of_marker or {}, site_of_wait),
        captured_launches=findings.launches.num_captured,
        launches_without_work=findings.launches.num_without_work if has_gpu else None,
        phases=phases(findings, names),
        steps=step_times(findings, knows_idle=is_reliable),
        culprits=culprits(findings, names),
        streams=stream_times(findings),
        queues=queue_lengths(findings),
        launch_delays=launch_delays(findings),
        warnings=warnings(findings),
        notes=notes(findings) + _unpredicted(findings, savings),
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


def _unpredicted(findings: Findings, savings: PredictedSavings) -> tuple[str, ...]:
    """Why there are no predicted savings."""
    if not findings.has_gpu or not len(findings.waits):
        return ()
    if not savings.num_affordable:
        return (
            f"no predicted savings: {len(findings.trace.calls)} calls are too many to replay; record a shorter stretch",
        )
    return (f"no predicted savings: {savings.doubt}",) if savings.doubt else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedTimes:
    """All waits with one marker, in ms; ``kind`` is what the operators around most of them say."""

    count: int
    kind: Kind
    blocked_ms: float
    lost_gpu_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedTrace:
    """A profile of our own, looked at once."""

    findings: Findings
    savings: PredictedSavings

    @classmethod
    def of(cls, trace: Trace) -> MarkedTrace:
        """Looks at a trace."""
        findings = examine(trace)
        return cls(findings=findings, savings=PredictedSavings(findings))

    def times(self) -> dict[int, MarkedTimes]:
        """Times by marker."""
        markers, group = np.unique(self.findings.waits.marker, return_inverse=True)
        rows = np.arange(len(self.findings.waits))
        return dict(zip(markers.tolist(), self._times(rows, group.reshape(-1), len(markers)), strict=True))

    def _times(self, rows: Ints, group: Ints, num_groups: int) -> list[MarkedTimes]:
        """Times of some waits by group, in one pass however many groups there are."""
        waits = self.findings.waits
        by_kind = np.bincount(group * len(KINDS) + waits.kind[rows], minlength=num_groups * len(KINDS))
        kinds = by_kind.reshape(num_groups, len(KINDS)).argmax(axis=1)
        counts = np.bincount(group, minlength=num_groups)
        blocked_ms, lost_ms = (
            np.bincount(group, weights=values_us[rows], minlength=num_groups) / 1e3
            for values_us in (waits.blocked_us, self.findings.idle.lost_by_wait_us)
        )
        return [
            MarkedTimes(
                count=int(counts[i]),
                kind=KINDS[kinds[i]],
                blocked_ms=float(blocked_ms[i]),
                lost_gpu_ms=float(lost_ms[i]),
            )
            for i in range(num_groups)
        ]

    def predicted_saving_ms(self, markers: Collection[int]) -> tuple[float, float] | None:
        """What the profiled run would have saved without the waits with these markers (``PredictedSavings.of``)."""
        return self.savings.of(np.flatnonzero(np.isin(self.findings.waits.marker, list(markers))).tolist())

    def unmarked_sites(self) -> list[SyncSite]:
        """The waits that no callback announced, by kind, operator and region; a library's, mostly."""
        trace, regions, waits = self.findings.trace, self.findings.regions, self.findings.waits
        unmarked = np.flatnonzero(waits.marker == NONE)
        keys = np.column_stack([waits.kind, waits.outer_op, waits.region])[unmarked]
        found, group = np.unique(keys, axis=0, return_inverse=True) if len(keys) else (keys, np.empty(0, np.int64))
        all_times = self._times(unmarked, group.reshape(-1), len(found))
        sites = []
        for times, (kind, op, region) in zip(all_times, found.tolist(), strict=True):
            sites.append(
                SyncSite(
                    kind=KINDS[kind],
                    file="",
                    line=0,
                    function="",
                    region="/".join(regions.paths[region]),
                    count=times.count,
                    blocked_ms=times.blocked_ms,
                    lost_gpu_ms=times.lost_gpu_ms,
                    op=trace.names[op] if op != NONE else None,
                )
            )
        return sites
