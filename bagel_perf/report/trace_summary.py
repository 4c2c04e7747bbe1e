"""The sentences around the tables of a trace: what it is, what to distrust, what matters most, what to do next."""

from __future__ import annotations

from bagel_perf.report.trace_advice import ADVICE
from bagel_perf.report.trace_tables import CAUSE_LABELS, WIDE_NAME, place_of, range_text, short_name
from bagel_perf.schema.traces import Cause, TraceReport, WaitSite
from bagel_perf.schema.waits import HINTS

# Waits are named first if without them this share of the idle time that the host causes would be gone.
WAITS_SHARE = 0.2
# A device that is busy for this share has no idle time worth a look.
BUSY_SHARE = 0.95
# Of the busy time this share of communication or copies, with nothing computed beside, is worth a look by itself.
EXPOSED_SHARE = 0.1
# What is saved by a replay without waits, and the idle time that they caused, may differ so many times unexplained.
ALIKE = 3.0
TELLING_MS = 0.1
# Steady steps are looked at by themselves if this share of their time is idle.
IDLE_SHARE = 0.01
SYNC_CAUSES: tuple[Cause, ...] = ("host_sync", "after_sync")
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
    lines.append(f"{report.host_syncs} host syncs{_kinds(report)}")
    blocked = f"held the host {report.blocked_ms:.2f} ms"
    if report.lost_gpu_ms is not None:
        blocked += f"; the GPU was idle in them and until the next work for {report.lost_gpu_ms:.2f} ms"
    if report.price_ms is not None:
        blocked += f"; all would take {range_text(report.price_ms)} ms less without them"
    if report.host_syncs:
        lines.append(blocked)
    return (*lines, *_aside(report))


def warning_lines(report: TraceReport) -> tuple[str, ...]:
    """The warnings, to be read before any figure."""
    return tuple(f"WARNING: {warning}" for warning in report.warnings)


def note_lines(report: TraceReport) -> tuple[str, ...]:
    """What was assumed or left out."""
    return tuple(f"- {note}" for note in (*report.notes, *_unlike_price(report)))


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
    if report.gpu_busy_ms >= BUSY_SHARE * report.window_ms * len(report.devices):
        return _busy_line(report)
    idle_ms, where = _steady_idle(report)
    cause = max(idle_ms, key=lambda name: idle_ms[name], default=None)
    best = max(report.sites, key=_cost_ms, default=None)
    sync_ms = sum(idle_ms.get(name, 0.0) for name in SYNC_CAUSES)
    if best is not None and _cost_ms(best) > 0 and (cause in SYNC_CAUSES or _is_worth(report, idle_ms, sync_ms)):
        return _advice(best)
    if cause is None or not idle_ms[cause]:
        return "next: nothing that the host could do better"
    share = f"{idle_ms[cause] / sum(idle_ms.values()):.0%} of it"
    lead = f"next: of {sum(idle_ms.values()):.2f} ms idle{where}, {share} is {CAUSE_LABELS[cause]}"
    return f"{lead}{_culprit(report, cause)}: {ADVICE[cause]}"


def _is_worth(report: TraceReport, idle_ms: dict[Cause, float], sync_ms: float) -> bool:
    """Whether without its waits much of the idle time would be gone, though another cause has more of it."""
    saved_ms = report.price_ms[1] if report.price_ms else sync_ms
    avoidable_ms = sum(time_ms for cause, time_ms in idle_ms.items() if cause not in ("queued", "unknown"))
    return saved_ms > 0 and saved_ms >= WAITS_SHARE * avoidable_ms


def _steady_idle(report: TraceReport) -> tuple[dict[Cause, float], str]:
    """Idle time by cause, of the steady steps where they have any, and the words that say so."""
    for phase in report.phases:
        length_ms = (phase.end_ms - phase.start_ms) * len(report.devices)
        if phase.name == "steady" and phase.gpu_idle_ms and phase.gpu_idle_ms >= IDLE_SHARE * length_ms:
            return phase.idle_by_cause_ms, " in the steady steps"
    return report.idle_by_cause_ms, ""


def _culprit(report: TraceReport, cause: Cause) -> str:
    """What took most of a cause, where that is known, and where the longest gap of it is."""
    what = next((culprit for culprit in report.culprits if culprit.cause == cause and culprit.what), None)
    gap = next((gap for gap in report.gaps if any(part.cause == cause for part in gap.parts)), None)
    told = f"mostly {short_name(what.what, WIDE_NAME)}" if what else ""
    at = f"longest gap at {gap.start_ms:.2f} ms" if gap and gap.cause == cause else ""
    found = ", ".join(part for part in (told, at) if part)
    return f" ({found})" if found else ""


def _busy_line(report: TraceReport) -> str:
    """What to do about a GPU that has work nearly all of the time."""
    assert report.gpu_busy_ms is not None
    exposed = {
        "communication": sum(device.exposed_communication_ms or 0.0 for device in report.devices),
        "copies": sum(device.exposed_copy_ms or 0.0 for device in report.devices),
    }
    worst = max(exposed, key=lambda name: exposed[name])
    if exposed[worst] >= EXPOSED_SHARE * report.gpu_busy_ms:
        share = f"{exposed[worst] / report.gpu_busy_ms:.0%} of it with {worst} beside which nothing is computed"
        remedy = "trace all ranks together to see whom they wait for" if worst == "communication" else "overlap them"
        return f"next: the GPU is busy, {share}: {remedy}"
    kernel = short_name(report.kernels[0].name, WIDE_NAME) if report.kernels else "its kernels"
    return f"next: the GPU is busy; make its work faster, first {kernel}"


def _exposed(report: TraceReport) -> list[str]:
    """What of the busy time was communication or copies alone."""
    communication_ms = sum(device.exposed_communication_ms or 0.0 for device in report.devices)
    copy_ms = sum(device.exposed_copy_ms or 0.0 for device in report.devices)
    if not report.gpu_busy_ms or max(communication_ms, copy_ms) < max(0.01 * report.gpu_busy_ms, 0.01):
        return []
    parts = {"communication": communication_ms, "copies": copy_ms}
    told = " and ".join(f"{time_ms:.2f} ms of {name}" for name, time_ms in parts.items() if time_ms >= 0.01)
    return [f"of the busy time nothing was computed beside {told}"]


def _unlike_price(report: TraceReport) -> tuple[str, ...]:
    """Which part of the gaps each of two figures counts, where they are far from each other, in all or of one site."""
    asked = [("", report.price_ms, report.lost_gpu_ms)]
    asked += [(f" of {place_of(site)}", site.price_ms, site.lost_gpu_ms) for site in report.sites]
    for place, price_ms, caused_ms in asked:
        if price_ms is not None and caused_ms is not None and _is_unlike(*price_ms, caused_ms):
            return (
                f"idle caused{place} ({caused_ms:.2f} ms) is the time of gaps inside waits and until the next work; "
                f"the price ({range_text(price_ms)} ms) is what the program would take less, replayed without them: "
                "idle time that something else would then fill does not count, and time that it could run ahead does",
            )
    return ()


def _is_unlike(least_ms: float, most_ms: float, caused_ms: float) -> bool:
    if max(most_ms, caused_ms) < TELLING_MS:
        return False
    return most_ms * ALIKE < caused_ms or least_ms > caused_ms * ALIKE


def _advice(site: WaitSite) -> str:
    waits = f"{site.count} wait{'s' * (site.count != 1)}"
    cost = f"{range_text(site.price_ms)} ms" if site.price_ms else f"{site.lost_gpu_ms or 0.0:.2f} ms idle"
    return f"next: {place_of(site)} ({waits}, {cost}): try {HINTS[site.kind].advice}"


def _cost_ms(site: WaitSite) -> float:
    """What a site costs: its price, else the idle time that it caused."""
    return site.price_ms[1] if site.price_ms else site.lost_gpu_ms or 0.0


def _launches(report: TraceReport) -> str:
    return "launches unknown" if report.launches is None else f"{report.launches} launches"


def _kinds(report: TraceReport) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.syncs_by_kind.items())
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
