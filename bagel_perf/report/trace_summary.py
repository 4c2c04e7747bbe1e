"""A trace report for a terminal: what to distrust first, then what matters most, what to do next last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO

from rich.text import Text

from bagel_perf.records.sites import HINTS
from bagel_perf.records.traces import Cause, Culprit, Phase, TraceReport, WaitSite
from bagel_perf.report.inert import terminal
from bagel_perf.report.table import counted
from bagel_perf.report.text import console_for, print_lines, print_tables
from bagel_perf.report.trace_changes import change_lines, change_tables
from bagel_perf.report.trace_tables import (
    CAUSE_LABELS,
    WIDE_NAME,
    label_of,
    place_of,
    range_text,
    short_name,
    trace_tables,
)

SYNC_CAUSES: tuple[Cause, ...] = ("host_sync", "after_sync")
SECOND_SHARE = 0.2
"""Of the idle time: what takes this much and is not the first is named as well."""
EXPOSED_SHARE = 0.1
"""Of the busy time: so much communication, or copies, with nothing computed beside is worth a look by itself."""
MOSTLY = 0.5

STEADY_SHARE = 0.01
"""Of the time of steady steps: with less of it idle they are busy."""

ADVICE: dict[Cause, str] = {
    "host_sync": "take the waits of the table out of the loop",
    "after_sync": "take the waits of the table out of the loop",
    "unrecorded_work": "record what is missing (the other process, the kernels of graphs, a shorter stretch that loses "
    "no rows); until then busy time is a lower bound",
    "one_time_setup": "it is paid once; warm up before you record or time",
    "graph_capture": "capture before the steps that count, once for each shape, and replay afterwards",
    "allocator": "keep the memory (no empty_cache() in the loop, buffers made once; "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True)",
    "data_loader": "load ahead while the GPU works (num_workers, prefetch_factor, pin_memory)",
    "cpu_elsewhere": "see what the CPU does there; do it ahead, on another thread, or on the GPU",
    "launch_bound": "launch less or faster (CUDA graphs, torch.compile, larger batches)",
    "launch_overhead": "launch less (CUDA graphs, fused kernels, larger batches)",
    "queued": "it was launched in time and waited on the device; see what the stream waits for (the event before the "
    "launch: another stream, device or process, or a host function); faster launches would not help",
    "unknown": "record the runtime calls with their correlation",
}
COPY_ADVICE = "copy less, from pinned memory that is allocated once, with non_blocking=True and other work meanwhile"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """The stretch that advice is about: its idle time by cause, what it was in, and the words for the stretch."""

    idle_ms: dict[Cause, float]
    culprits: tuple[Culprit, ...]
    words: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    """Something to do: the time at stake, and the words, which are a share of the idle time or stand by themselves."""

    time_ms: float
    text: str
    is_idle: bool = False


def advice(report: TraceReport) -> str:
    """What to do about the time of the steady steps, where those can be told apart, or else of the window.

    The largest part of the idle time, and the second where that is large as well; where there is little, the work.
    """
    if told := _warm_up_alone(report):
        return told
    scope = _scope(report)
    total_ms = sum(scope.idle_ms.values())
    if (
        total_ms <= (1 - BUSY_SHARE) * (scope.end_ms - scope.start_ms) * max(len(report.devices), 1)
        and report.gpu_busy_ms
    ):
        return _of_busy(report)
    found = sorted(_options(report, scope), key=lambda option: -option.time_ms)
    if not found:
        return "nothing that the host could do better"
    first = found[0]
    lead = f"of {total_ms:.2f} ms idle{scope.words}, " * first.is_idle
    second = next((option for option in found[1:] if option.time_ms >= SECOND_SHARE * total_ms), None)
    return f"{lead}{first.text}" + (f"; then {second.text}" if second else "")


def _warm_up_alone(report: TraceReport) -> str:
    """What to say where the idle time is the warm-up's and the steady steps are busy, else nothing."""
    warm_up, steady = _phase(report, "warm-up"), _phase(report, "steady")
    if warm_up is None or steady is None or not _is_busy(steady, report):
        return ""
    warm_up_ms, steady_ms, busy_ms = warm_up.gpu_idle_ms or 0.0, steady.gpu_idle_ms or 0.0, steady.gpu_busy_ms or 0.0
    outside_ms = (report.gpu_idle_ms or 0.0) - warm_up_ms - steady_ms
    if not busy_ms or warm_up_ms <= max(steady_ms, outside_ms):
        return ""
    cause = max(warm_up.idle_by_cause_ms, key=lambda name: warm_up.idle_by_cause_ms[name])
    mostly = _mostly(warm_up.culprits, cause, warm_up.idle_by_cause_ms[cause])
    busy = f"the steady steps are busy ({busy_ms / (busy_ms + steady_ms):.1%})"
    return (
        f"{busy}; {warm_up_ms:.2f} ms idle lie in the warm-up{mostly}: paid once, so warm up before you record or time"
    )


def _of_busy(report: TraceReport) -> str:
    """What to do about a GPU that has work nearly all of the time."""
    if exposed := _exposed_options(report):
        _, text = max(exposed)
        return f"the GPU is busy; {text}"
    kernel = short_name(report.kernels[0].name, WIDE_NAME) if report.kernels else "its kernels"
    return f"the GPU is busy; make its work faster, first {kernel}"


def _phase(report: TraceReport, name: str) -> Phase | None:
    return next((phase for phase in report.phases if phase.name == name and phase.gpu_idle_ms is not None), None)


def _is_busy(phase: Phase, report: TraceReport) -> bool:
    length_ms = (phase.end_ms - phase.start_ms) * len(report.devices)
    return (phase.gpu_idle_ms or 0.0) < STEADY_SHARE * length_ms


def _scope(report: TraceReport) -> _Scope:
    """The steady steps where idle time is theirs, else the whole window."""
    warm_up, steady = _phase(report, "warm-up"), _phase(report, "steady")
    if steady is not None and not _is_busy(steady, report):
        in_steps_ms = (steady.gpu_idle_ms or 0.0) + (warm_up.gpu_idle_ms or 0.0 if warm_up else 0.0)
        if (report.gpu_idle_ms or 0.0) - in_steps_ms <= (steady.gpu_idle_ms or 0.0):
            return _Scope(
                idle_ms=steady.idle_by_cause_ms,
                culprits=steady.culprits,
                words=" in the steady steps",
                start_ms=steady.start_ms,
                end_ms=steady.end_ms,
            )
    return _Scope(
        idle_ms=report.idle_by_cause_ms,
        culprits=report.culprits,
        words=" in the whole window, most of it outside of the steady steps" if steady is not None else "",
        start_ms=0.0,
        end_ms=report.window_ms,
    )


def _options(report: TraceReport, scope: _Scope) -> list[_Option]:
    """Everything that could be done, each with the time that is at stake."""
    total_ms = sum(scope.idle_ms.values())
    found = [_Option(time_ms=time_ms, text=text) for time_ms, text in _exposed_options(report)]
    for cause, time_ms in scope.idle_ms.items():
        if cause not in SYNC_CAUSES and time_ms > 0:
            share = f"{time_ms / total_ms:.0%} is {CAUSE_LABELS[cause]}{_where(report, scope, cause)}"
            found.append(_Option(time_ms=time_ms, text=f"{share}: {_remedy(scope, cause)}", is_idle=True))
    best = max(report.sites, key=_cost_ms, default=None)
    caused_ms = sum(report.idle_by_cause_ms.get(cause, 0.0) for cause in SYNC_CAUSES)
    sync_ms = sum(scope.idle_ms.get(cause, 0.0) for cause in SYNC_CAUSES)
    if best is not None and _cost_ms(best) > 0:
        # A predicted saving is known of all waits together; a stretch has as much of it as it has of the idle time in
        # them.
        part = sync_ms / caused_ms if caused_ms else 1.0
        saved_ms = report.predicted_saving_ms[1] * part if report.predicted_saving_ms else sync_ms
        found.append(_Option(time_ms=saved_ms, text=_of_site(best)))
    return found


def _exposed_options(report: TraceReport) -> list[tuple[float, str]]:
    """Communication and copies with nothing computed beside them, where that is much of the busy time."""
    busy_ms = report.gpu_busy_ms or 0.0
    communication_ms = sum(device.exposed_communication_ms or 0.0 for device in report.devices)
    copy_ms = sum(device.exposed_copy_ms or 0.0 for device in report.devices)
    remedies = (
        (communication_ms, "communication", "overlap it, or trace all ranks together to see whom they wait for"),
        (copy_ms, "copies", COPY_ADVICE),
    )
    return [
        (time_ms, f"{time_ms / busy_ms:.0%} of the busy time is {what} with nothing computed beside: {remedy}")
        for time_ms, what, remedy in remedies
        if busy_ms and time_ms >= EXPOSED_SHARE * busy_ms
    ]


def _where(report: TraceReport, scope: _Scope, cause: Cause) -> str:
    """What took most of a cause, where that is known, and where its longest gap in the scope is."""
    inside = (gap for gap in report.gaps if scope.start_ms <= gap.start_ms + gap.duration_ms / 2 <= scope.end_ms)
    gap = next((gap for gap in inside if gap.cause == cause), None)
    device = f" on GPU {gap.device}" if gap and len(report.devices) > 1 else ""
    at = f"longest gap at {gap.start_ms:.2f} ms{device}" if gap else ""
    mostly = _mostly(scope.culprits, cause, scope.idle_ms[cause]).strip(" ()")
    found = ", ".join(part for part in (mostly, at) if part)
    return f" ({found})" if found else ""


def _mostly(culprits: tuple[Culprit, ...], cause: Cause, cause_ms: float) -> str:
    """What took at least half of a cause, in brackets; nothing where that has no name."""
    worst = max((each for each in culprits if each.cause == cause), key=lambda each: each.idle_ms, default=None)
    if worst is None or not worst.what or worst.idle_ms < MOSTLY * cause_ms:
        return ""
    what = short_name(worst.what, WIDE_NAME)
    return f" ({what})" if what[0].isdigit() else f" (mostly {what})"


def _remedy(scope: _Scope, cause: Cause) -> str:
    worst = next((culprit.what for culprit in scope.culprits if culprit.cause == cause), "")
    if cause == "launch_overhead" and "Memcpy" in worst:
        return COPY_ADVICE
    if cause == "launch_overhead" and "GraphLaunch" in worst:
        return "capture more of the work in one graph, so that fewer are launched"
    return ADVICE[cause]


def _of_site(site: WaitSite) -> str:
    cost = (
        f"{range_text(site.predicted_saving_ms)} ms"
        if site.predicted_saving_ms
        else f"{site.lost_gpu_ms or 0.0:.2f} ms idle"
    )
    return f"{place_of(site)} ({counted(site.count, 'wait')}, {cost}): try {HINTS[site.kind].advice}"


def _cost_ms(site: WaitSite) -> float:
    """What a site costs: its predicted saving, else the idle time that it caused."""
    return site.predicted_saving_ms[1] if site.predicted_saving_ms else site.lost_gpu_ms or 0.0


BUSY_SHARE = 0.95
# What is saved by a replay without waits, and the idle time that they caused, may differ so many times unexplained.
ALIKE = 3.0
TELLING_MS = 0.1
FORMATS = {"kineto": "torch.profiler", "nsys": "Nsight Systems"}


def source_line(report: TraceReport) -> str:
    """What was read."""
    source = report.source
    devices = ", ".join(f"{count} x {name}" if count > 1 else name for name, count in _device_counts(report).items())
    size = f"{source.num_bytes / 1e6:.1f} MB" if source.num_bytes > 1e6 else f"{source.num_bytes / 1e3:.0f} kB"
    parts = [f"{source.file}: {FORMATS[source.format]} trace", _version(report), devices, size]
    parts.append(f"{source.num_events} events")
    return ", ".join(part for part in parts if part)


def headline(report: TraceReport) -> tuple[str, ...]:
    """Waits, busy and idle time in two or three sentences."""
    window_ms = report.window_ms
    lines = []
    if report.gpu_busy_ms is not None:
        devices_ms = window_ms * max(len(report.devices), 1)
        share = f" ({report.gpu_busy_ms / devices_ms:.0%})" if devices_ms else ""
        busy = f"GPU busy {report.gpu_busy_ms:.2f} of {devices_ms:.2f} ms{share}"
        idle = f", idle {report.gpu_idle_ms:.2f} ms" if report.gpu_idle_ms is not None else ", idle time unknown"
        lines.append(f"{busy}{idle}; {_launches(report)}")
        lines += _exposed(report)
    else:
        lines.append(f"{window_ms:.2f} ms; {_launches(report)}")
    if report.host_syncs is None or report.blocked_ms is None:
        return (*lines, "host syncs unknown")
    lines.append(f"{counted(report.host_syncs, 'host sync')}{_kinds(report)}")
    blocked = f"held the host {report.blocked_ms:.2f} ms"
    if report.lost_gpu_ms is not None:
        blocked += f"; the GPU was idle in them and until the next work for {report.lost_gpu_ms:.2f} ms"
    if report.predicted_saving_ms is not None:
        blocked += f"; all would take {range_text(report.predicted_saving_ms)} ms less without them"
    if report.host_syncs:
        lines.append(blocked)
    return (*lines, *_aside(report))


def warning_lines(report: TraceReport) -> tuple[str, ...]:
    """The warnings, to be read before any figure."""
    return tuple(f"WARNING: {warning}" for warning in report.warnings)


def note_lines(report: TraceReport) -> tuple[str, ...]:
    """What was assumed or left out."""
    return tuple(f"- {note}" for note in (*report.notes, *_unlike_saving(report)))


def next_line(report: TraceReport) -> str:
    """What to do next, by what costs the GPU most."""
    if report.gpu_busy_ms is None:
        rest = (
            "nothing can be told of waits" if report.host_syncs is None else "only counts and blocked times can be told"
        )
        return f"next: record the GPU as well; without it {rest}"
    if report.launches is None or (report.lost_gpu_ms is None and report.gpu_idle_ms is not None):
        return "next: record the runtime calls with their correlation; without them idle time has no cause"
    if report.gpu_idle_ms is None and not report.graph_launches:
        return "next: record it again; without all events of the GPU idle time cannot be told"
    if report.gpu_idle_ms is None:
        return "next: record the kernels of graphs (nsys --cuda-graph-trace=node), or run once without graphs"
    return f"next: {advice(report)}"


def _exposed(report: TraceReport) -> list[str]:
    """What of the busy time was communication or copies alone."""
    communication_ms = sum(device.exposed_communication_ms or 0.0 for device in report.devices)
    copy_ms = sum(device.exposed_copy_ms or 0.0 for device in report.devices)
    if not report.gpu_busy_ms or max(communication_ms, copy_ms) < max(0.01 * report.gpu_busy_ms, 0.01):
        return []
    parts = {"communication": communication_ms, "copies": copy_ms}
    told = " and ".join(f"{time_ms:.2f} ms of {name}" for name, time_ms in parts.items() if time_ms >= 0.01)
    return [f"of the busy time nothing was computed beside {told}"]


def _unlike_saving(report: TraceReport) -> tuple[str, ...]:
    """Which part of the gaps each of two figures counts, where they are far from each other, in all or of one site."""
    asked = [("", report.predicted_saving_ms, report.lost_gpu_ms)]
    asked += [(f" of {place_of(site)}", site.predicted_saving_ms, site.lost_gpu_ms) for site in report.sites]
    for place, predicted_saving_ms, caused_ms in asked:
        if predicted_saving_ms is not None and caused_ms is not None and _is_unlike(*predicted_saving_ms, caused_ms):
            return (
                f"idle caused{place} ({caused_ms:.2f} ms) is the time of gaps inside waits and until the next work; "
                f"the predicted saving ({range_text(predicted_saving_ms)} ms) is what a replay without them saves: "
                "idle time that something else would then fill does not count, and time that it could run ahead does",
            )
    return ()


def _is_unlike(least_ms: float, most_ms: float, caused_ms: float) -> bool:
    if max(most_ms, caused_ms) < TELLING_MS:
        return False
    return most_ms * ALIKE < caused_ms or least_ms > caused_ms * ALIKE


def _launches(report: TraceReport) -> str:
    return "launches unknown" if report.launches is None else f"{report.launches} launch{'es' * (report.launches != 1)}"


def _kinds(report: TraceReport) -> str:
    kinds = ", ".join(f"{count} x {label_of(kind)}" for kind, count in report.syncs_by_kind.items())
    return f": {kinds}" if kinds else ""


def _aside(report: TraceReport) -> tuple[str, ...]:
    """What may wait as well, and is no sync."""
    parts = []
    if report.allocator_calls:
        parts.append(f"{report.allocator_calls} allocator calls ({report.allocator_ms:.2f} ms)")
    if report.pageable_copies:
        parts.append(f"{report.pageable_copies} pageable copies that held the host ({report.pageable_copy_ms:.2f} ms)")
    return (f"counted apart: {', '.join(parts)}",) if parts else ()


def _version(report: TraceReport) -> str:
    versions = report.source.versions
    if "EXPORT_PRODUCT_VERSION" in versions:
        return versions["EXPORT_PRODUCT_VERSION"]
    number = versions.get("cuda_runtime_version", "")
    return f"CUDA {int(number) // 1000}.{int(number) % 1000 // 10}" if number.isdigit() else ""


def _device_counts(report: TraceReport) -> dict[str, int]:
    counts: dict[str, int] = {}
    for device in report.devices:
        name = device.name or f"GPU {device.device}"
        counts[name] = counts.get(name, 0) + 1
    return counts


def print_trace(report: TraceReport, top: int, stream: TextIO) -> None:
    """Prints what the trace shows, and what changed if it was compared; at most ``top`` rows a table."""
    console = console_for(stream)
    for text, style in ((source_line(report), "bold"), *((line, "bold red") for line in warning_lines(report))):
        console.print(Text(terminal(text), style=style), soft_wrap=True)
    print_lines(console, (*headline(report), ""))
    print_tables(console, trace_tables(report, top))
    if report.difference is not None:
        print_tables(console, change_tables(report.difference, top))
        print_lines(console, change_lines(report.difference))
    print_lines(console, (*note_lines(report), next_line(report)))
