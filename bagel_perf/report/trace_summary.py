"""The sentences around the tables of a trace: what it is, what to distrust, what matters most, what to do next."""

from __future__ import annotations

from bagel_perf.report.trace_tables import IDLE_LABELS, place_of, range_text
from bagel_perf.schema.traces import IdleClass, TraceReport, WaitSite
from bagel_perf.schema.waits import HINTS

# Waits are named first if without them this share of the idle time that the host causes would be gone.
WAITS_SHARE = 0.2
# A device that is busy for this share has no idle time worth a look.
BUSY_SHARE = 0.95
HOST_CAUSES: tuple[IdleClass, ...] = ("launch_bound", "cpu_elsewhere")
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
    else:
        lines.append(f"{window_ms:.2f} ms; {_launches(report)}")
    if report.host_syncs is None or report.blocked_ms is None:
        return (*lines, "host syncs unknown")
    lines.append(f"{report.host_syncs} host syncs{_kinds(report)}")
    blocked = f"held the host {report.blocked_ms:.2f} ms"
    if report.lost_gpu_ms is not None:
        blocked += f"; the GPU ran dry in them for {report.lost_gpu_ms:.2f} ms"
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
    return tuple(f"- {note}" for note in report.notes)


def next_line(report: TraceReport) -> str:
    """What to do next, by what costs the GPU most."""
    if report.gpu_busy_ms is None:
        rest = (
            "nothing can be told of waits" if report.host_syncs is None else "only counts and blocked times can be told"
        )
        return f"next: record the GPU as well; without it {rest}"
    if report.launches is None or (report.lost_gpu_ms is None and report.gpu_idle_ms is not None):
        return "next: record the runtime calls with their correlation; without them idle time has no cause"
    if report.gpu_idle_ms is None:
        return "next: record the kernels of graphs (nsys --cuda-graph-trace=node), or run once without graphs"
    idle_ms = {name: report.idle_ms[name] for name in HOST_CAUSES}
    best = max(report.sites, key=_price_ms, default=None)
    if report.gpu_busy_ms >= BUSY_SHARE * report.window_ms * len(report.devices):
        kernel = report.kernels[0].name[:60] if report.kernels else "its kernels"
        return f"next: the GPU is busy; make its work faster, first {kernel}"
    avoidable_ms = sum(idle_ms.values()) + report.idle_ms["after_sync"]
    has_price = best is not None and _price_ms(best) > 0
    if best is not None and has_price and report.price_ms and report.price_ms[1] >= WAITS_SHARE * avoidable_ms:
        return _advice(best)
    cause = max(idle_ms, key=lambda name: idle_ms[name])
    if not idle_ms[cause]:
        return _advice(best) if best is not None and has_price else "next: nothing that the host could do better"
    place = _worst_region(report, cause)
    if cause == "launch_bound":
        remedy = "launch less or faster (CUDA graphs, torch.compile, larger batches)"
    else:
        gap = next((gap for gap in report.gaps if gap.cause == cause), None)
        during = f", during {gap.during}" if gap and gap.during else ""
        when = f"; the longest gap is at {gap.start_ms:.2f} ms{during}" if gap else ""
        remedy = f"see what the CPU does there{when}"
    return f"next: {IDLE_LABELS[cause]} gaps cost {idle_ms[cause]:.2f} ms{place}: {remedy}"


def _advice(site: WaitSite) -> str:
    waits = f"{site.count} wait{'s' * (site.count != 1)}"
    return f"next: {place_of(site)} ({waits}, {range_text(site.price_ms)} ms): try {HINTS[site.kind].advice}"


def _price_ms(site: WaitSite) -> float:
    return site.price_ms[1] if site.price_ms else 0.0


def _worst_region(report: TraceReport, cause: IdleClass) -> str:
    regions = [region for region in report.regions if region.path]
    worst = max(regions, key=lambda region: (region.idle_ms.get(cause, 0.0), len(region.path)), default=None)
    if worst is None or not worst.idle_ms.get(cause):
        return ""
    return f", {worst.idle_ms[cause]:.2f} ms of it in {' > '.join(worst.path)}"


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
