"""The sentences around the tables of a trace: what it is, what to distrust, what matters most, what to do next."""

from __future__ import annotations

from bagel_perf.report.table import counted
from bagel_perf.report.trace_advice import advice
from bagel_perf.report.trace_tables import place_of, range_text
from bagel_perf.schema.traces import TraceReport

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


def _launches(report: TraceReport) -> str:
    return "launches unknown" if report.launches is None else f"{report.launches} launch{'es' * (report.launches != 1)}"


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
