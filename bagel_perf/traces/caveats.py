"""What the figures of a trace cannot be trusted for (warnings), and what was assumed or left out (notes).

Figures that the trace cannot tell are taken out of the report: null is not 0.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from bagel_perf.records.sites import KINDS
from bagel_perf.records.traces import Lanes, TraceReport
from bagel_perf.traces.findings import MAX_ORPHANS, Findings
from bagel_perf.traces.gaps import Gaps
from bagel_perf.traces.tables import NONE
from bagel_perf.traces.trace import Api
from bagel_perf.traces.window import covered_us, union

# A host that is held this long by a device on which nothing is recorded waits for something that was not recorded.
MIN_UNSEEN_MS = 1.0
MIN_UNSEEN_SHARE = 0.5
MIN_TELLING, MAX_EARLY_US, BLOCKING_SHARE = 10, 5.0, 0.8
MIN_UNRECORDED_SHARE = 0.01

_SYNC_EVENTS = "record with experimental_config=torch._C._profiler._ExperimentalConfig(enable_cuda_sync_events=True)"
_STACKS = "record with with_stack=True and experimental_config=torch._C._profiler._ExperimentalConfig(verbose=True)"


def is_idle_reliable(findings: Findings) -> bool:
    """Whether the recorded work of the device is all of it, as far as the trace can tell.

    Replays of graphs whose kernels are missing make a busy device look idle; so does work for which the host waits
    while nothing is recorded.
    """
    if findings.trace.source.num_unreadable_activities:
        return False
    if not findings.launches.num_graph_launches:
        return True
    return not (findings.launches.hides_kernels or _waits_for_nothing(findings))


def warnings(findings: Findings) -> tuple[str, ...]:
    """Why figures are missing or uncertain, the gravest first."""
    trace, launches = findings.trace, findings.launches
    found = []
    if not findings.has_gpu:
        found.append(
            "NO GPU EVENTS: busy and idle time cannot be told; record with ProfilerActivity.CUDA, or nsys --trace=cuda"
        )
    _, unrecorded_us = findings.idle.unrecorded_us()
    if unrecorded_us > MIN_UNRECORDED_SHARE * findings.window.length_us:
        found.append(
            f"WORK NOT RECORDED: the host waited {unrecorded_us / 1e3:.2f} ms while nothing was recorded on any GPU "
            "(another process, a graph recorded without its kernels, lost rows); busy time is a lower bound"
        )
    if launches.num_without_work > MAX_ORPHANS * max(int(launches.is_launch.sum()), 1):
        found.append(
            f"LAUNCHES WITHOUT WORK: of {int(launches.is_launch.sum())} launches {launches.num_without_work} show no "
            "kernel, so rows were lost; idle time is an upper bound"
        )
    found += _clock_warnings(findings)
    source = trace.source
    if source.num_unreadable_activities:
        found.append(
            f"EVENTS OF THE GPU LEFT OUT: of {source.num_unreadable_activities} the time cannot be read, so it did "
            "more than is shown; idle time is unknown"
        )
    if source.num_unnamed_calls:
        found.append(
            f"CALLS WITHOUT NAMES: what {source.num_unnamed_calls} calls did cannot be told, so waits and launches are "
            "unknown"
        )
    if launches.num_graph_launches:
        found.append(_graph_warning(findings))
    if not len(trace.calls):
        found.append(
            "NO RUNTIME CALLS: launches are unknown and waits are those of cuda_sync rows alone"
            if len(trace.syncs)
            else "NO RUNTIME CALLS AND NO SYNC EVENTS: waits and launches cannot be told"
        )
    elif findings.has_gpu and not len(trace.syncs):
        found.append(
            "NO SYNC EVENTS: waits are counted from runtime calls; waits of libraries that call the driver are not "
            f"seen; {_SYNC_EVENTS if trace.source.format == 'kineto' else 'this nsys recorded none'}"
        )
    orphans = findings.orphan_share
    if orphans > MAX_ORPHANS and len(trace.calls):
        found.append(
            f"{orphans:.0%} of the GPU's work lacks its launch in the trace; the idle time before it is unknown"
        )
    return tuple(found)


def notes(findings: Findings) -> tuple[str, ...]:
    """What was assumed or left out."""
    trace, waits = findings.trace, findings.waits
    found = list(trace.source.notes)
    if findings.window.is_marked:
        found.append("only what lies in the annotation bagel_perf.window is counted")
    before_us, _ = findings.idle.unrecorded_us()
    if before_us:
        found.append(
            f"the trace begins with {before_us / 1e3:.2f} ms in waits for work from before it, or until the profiler "
            "had started"
        )
    if findings.launches.num_captured:
        found.append(
            f"{findings.launches.num_captured} launches were captured into graphs; they gave the GPU no work and are "
            "not counted"
        )
    if findings.captures.num_open:
        found.append(f"captures of graphs that do not end in the trace: {findings.captures.num_open}")
    if waits.num_profiler_syncs:
        found.append("the last cudaDeviceSynchronize is the profiler's own and is not counted")
    if trace.num_stream_waits:
        found.append(
            f"{trace.num_stream_waits} waits of one stream for another hold no host thread and are not counted"
        )
    if len(waits.unmatched_markers):
        found.append(f"{len(waits.unmatched_markers)} waits seen by callback have no wait in the trace")
    if not trace.has_stacks and trace.source.format == "kineto" and len(waits):
        found.append(f"no stacks, so no lines; {_STACKS}")
    overhead_ms = _overhead_in_gaps_ms(findings)
    if overhead_ms >= 0.1:
        found.append(f"{overhead_ms:.1f} ms of idle time are the profiler's own work")
    if any(KINDS[kind] == "explicit_sync" for kind in waits.kind) and len(findings.idle.busy.devices) > 1:
        found.append("device times are summed over devices; a wait is charged for each device that ran dry in it")
    return tuple(found)


def _clock_warnings(findings: Findings) -> list[str]:
    """What waits and launches that return too early or too late say about the recording."""
    trace, waits, launches = findings.trace, findings.waits, findings.launches
    found = []
    copied = np.flatnonzero(waits.copy != NONE)
    early_us = trace.activities.end_us[waits.copy[copied]] - waits.end_us[copied]
    if len(early_us) >= MIN_TELLING and np.median(early_us) > MAX_EARLY_US:
        found.append(
            f"CLOCKS DISAGREE: waits return {np.median(early_us):.0f} us before what they wait for has ended, so the "
            "GPU's times are late by at least that; short gaps have doubtful causes"
        )
    single = np.flatnonzero(launches.is_launch & (trace.activity_of_call != NONE) & (trace.apis == Api.LAUNCH))
    blocks = trace.calls.end_us[single] >= trace.activities.end_us[trace.activity_of_call[single]]
    if len(single) >= MIN_TELLING and blocks.mean() > BLOCKING_SHARE:
        found.append(
            f"LAUNCHES WAIT: {blocks.mean():.0%} of the launches return after their kernel has ended (is "
            "CUDA_LAUNCH_BLOCKING=1 set?); the program is another one without that"
        )
    return found


def _graph_warning(findings: Findings) -> str:
    launches = findings.launches
    head = (
        f"CUDA GRAPHS: {launches.num_graph_launches} replays hide the launches of their kernels; "
        f"{launches.num_graph_activities} activities are charged to the replay that started them"
    )
    if is_idle_reliable(findings):
        return head
    if launches.hides_kernels:
        why = f"{launches.num_empty_replays} replays show no work at all"
    else:
        why = "the host waits for work that is not recorded"
    return f"{head}. IDLE TIME IS UNRELIABLE AND NOT SHOWN: {why}"


def _waits_for_nothing(findings: Findings) -> bool:
    """Whether most of the time in waits passes with nothing recorded on any device."""
    trace, waits = findings.trace, findings.waits
    by_copy = (waits.copy != NONE) & (waits.begun_us == waits.start_us)
    start_us, end_us = waits.start_us[~by_copy], waits.end_us[~by_copy]
    busy = union(trace.activities.start_us, trace.activities.end_us)
    blocked_ms = float((end_us - start_us).sum()) / 1e3
    unseen_ms = blocked_ms - float(covered_us(*busy, start_us, end_us).sum()) / 1e3
    return unseen_ms > max(MIN_UNSEEN_MS, MIN_UNSEEN_SHARE * blocked_ms)


def _overhead_in_gaps_ms(findings: Findings) -> float:
    """How much of the gaps between activities the profiler's own work covers."""
    gaps: Gaps = findings.idle.gaps
    inner = (gaps.before != NONE) & (gaps.after != NONE)
    overhead = union(findings.trace.overhead.start_us, findings.trace.overhead.end_us)
    return float(np.sum(covered_us(*overhead, gaps.start_us[inner], gaps.end_us[inner]))) / 1e3


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
        predicted_saving_ms=None,
        sites=tuple(replace(site, lost_gpu_ms=None, predicted_saving_ms=None) for site in report.sites),
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
