"""What changed from one trace to another: waits, kernels and regions, as lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from bagel_perf.records.trace_differences import (
    Change,
    KernelChange,
    RegionChange,
    SiteChange,
    TotalChange,
    TraceDifference,
)
from bagel_perf.records.traces import CAUSES, PATH_SEPARATOR, KernelTime, RegionTime, TraceReport, WaitSite

TOTALS = ("window_ms", "host_syncs", "blocked_ms", "launches", "gpu_busy_ms", "gpu_idle_ms", "lost_gpu_ms")

_Row = TypeVar("_Row")
_SiteKey = tuple[str, ...]


def difference(report: TraceReport, reference: TraceReport) -> TraceDifference:
    """From ``reference`` to ``report``: what is gone, new, fewer, more; rows of unchanged numbers are left out.

    What one of the traces does not tell is unknown, not gone: waits without calls of the runtime, kernels without work
    of a device, and kernels of unlike devices, which have other names for the same work.

    Waits are the same place if kind, operator, file and function are; without stacks in both traces, if kind, operator
    and region are. Lines are no part of that: an edit above moves them.
    """
    return TraceDifference(
        reference=reference.source.file,
        totals=tuple(
            TotalChange(name=name, before=getattr(reference, name), after=getattr(report, name)) for name in TOTALS
        ),
        syncs=_site_changes(report, reference),
        kernels=_kernel_changes(report, reference),
        regions=_region_changes(report, reference),
        notes=_notes(report, reference),
        idle_by_cause=_idle_changes(report, reference),
    )


def _idle_changes(report: TraceReport, reference: TraceReport) -> tuple[TotalChange, ...]:
    """Idle time before and after by cause, those first that changed most; nothing where neither tells it."""
    was, now = reference.idle_by_cause_ms, report.idle_by_cause_ms
    changes = [
        TotalChange(name=cause, before=was.get(cause, 0.0) if was else None, after=now.get(cause, 0.0) if now else None)
        for cause in CAUSES
        if was.get(cause) or now.get(cause)
    ]
    return tuple(sorted(changes, key=lambda each: -abs((each.after or 0.0) - (each.before or 0.0))))


def _site_changes(report: TraceReport, reference: TraceReport) -> tuple[SiteChange, ...]:
    by_line = report.source.has_stacks and reference.source.has_stacks

    def key(site: WaitSite) -> _SiteKey:
        place = (site.file, site.function) if by_line and site.file else ("", site.region)
        return (site.kind, site.op, *place)

    before, after = _grouped(reference.sites, key), _grouped(report.sites, key)
    changes = []
    for each in dict.fromkeys([*before, *after]):
        was, now = before.get(each, []), after.get(each, [])
        count_before = None if reference.host_syncs is None else sum(site.count for site in was)
        count_after = None if report.host_syncs is None else sum(site.count for site in now)
        if count_before != count_after:
            example = (now or was)[0]
            changes.append(
                SiteChange(
                    change=_change(count_before, count_after),
                    kind=example.kind,
                    op=example.op,
                    file=example.file,
                    line=example.line,
                    function=example.function,
                    region=example.region,
                    count_before=count_before,
                    count_after=count_after,
                    lost_gpu_ms_before=_lost(was, reference),
                    lost_gpu_ms_after=_lost(now, report),
                )
            )
    return tuple(sorted(changes, key=_site_rank))


def _kernel_changes(report: TraceReport, reference: TraceReport) -> tuple[KernelChange, ...]:
    before = {kernel.name: kernel for kernel in reference.kernels}
    after = {kernel.name: kernel for kernel in report.kernels}
    alike = not _unlike_devices(report, reference)
    changes = []
    for name in dict.fromkeys([*before, *after]):
        was, now = before.get(name), after.get(name)
        count_before, total_ms_before = _known(was, is_told=reference.gpu_busy_ms is not None and (alike or bool(was)))
        count_after, total_ms_after = _known(now, is_told=report.gpu_busy_ms is not None and (alike or bool(now)))
        if count_before != count_after:
            changes.append(
                KernelChange(
                    change=_change(count_before, count_after) if alike else "unknown",
                    name=name,
                    count_before=count_before,
                    count_after=count_after,
                    total_ms_before=total_ms_before,
                    total_ms_after=total_ms_after,
                )
            )
    return tuple(
        sorted(changes, key=lambda row: (-abs((row.total_ms_after or 0.0) - (row.total_ms_before or 0.0)), row.name))
    )


def _known(kernel: KernelTime | None, *, is_told: bool) -> tuple[int, float] | tuple[None, None]:
    """Number and time of a kernel, 0 where there is none, None where the trace does not tell."""
    if not is_told:
        return None, None
    return (kernel.count, kernel.total_ms) if kernel else (0, 0.0)


def _unlike_devices(report: TraceReport, reference: TraceReport) -> str:
    """The names of the devices of the two where they differ, as far as both traces name them."""
    before, after = ({device.name for device in each.devices} - {""} for each in (reference, report))
    return f"{', '.join(sorted(before))} and {', '.join(sorted(after))}" if before and after and before != after else ""


def _region_changes(report: TraceReport, reference: TraceReport) -> tuple[RegionChange, ...]:
    before = {region.path: region for region in reference.regions}
    after = {region.path: region for region in report.regions}
    changes = [_region_change(path, before.get(path), after.get(path)) for path in dict.fromkeys([*before, *after])]
    return tuple(sorted(changes, key=_region_rank))


def _region_change(path: tuple[str, ...], was: RegionTime | None, now: RegionTime | None) -> RegionChange:
    return RegionChange(
        path=path,
        calls_before=was.calls if was else None,
        calls_after=now.calls if now else None,
        host_syncs_before=was.host_syncs if was else None,
        host_syncs_after=now.host_syncs if now else None,
        wall_ms_before=was.wall_ms if was else None,
        wall_ms_after=now.wall_ms if now else None,
        lost_gpu_ms_before=was.lost_gpu_ms if was else None,
        lost_gpu_ms_after=now.lost_gpu_ms if now else None,
        gpu_idle_ms_before=was.gpu_idle_ms if was else None,
        gpu_idle_ms_after=now.gpu_idle_ms if now else None,
    )


def _notes(report: TraceReport, reference: TraceReport) -> tuple[str, ...]:
    """Why counts of the two may differ for reasons that are none of the program's."""
    found = []
    before = {region.path: region.calls for region in reference.regions}
    unlike = [
        f"{PATH_SEPARATOR.join(region.path)} {before[region.path]} to {region.calls}"
        for region in report.regions
        if len(region.path) == 1 and before.get(region.path, region.calls) != region.calls
    ]
    if unlike:
        found.append(
            f"regions were entered a different number of times ({', '.join(unlike[:3])}); counts are of all calls"
        )
    if unlike_devices := _unlike_devices(report, reference):
        found.append(f"the devices are unlike: {unlike_devices}; how their kernels changed is unknown")
    found += _untold(report, reference)
    if report.source.has_stacks != reference.source.has_stacks:
        found.append("only one trace has stacks; places are compared by operator and region")
    versions = [each.source.versions for each in (reference, report)]
    differing = sorted(name for name in {*versions[0], *versions[1]} if versions[0].get(name) != versions[1].get(name))
    if differing:
        found.append(f"recorded with unlike versions: {', '.join(differing)}")
    return tuple(found)


def _untold(report: TraceReport, reference: TraceReport) -> Iterator[str]:
    """What one trace tells and the other does not."""
    for what, figures in (
        ("host syncs", (reference.host_syncs, report.host_syncs)),
        ("launches", (reference.launches, report.launches)),
        ("work of a device", (reference.gpu_busy_ms, report.gpu_busy_ms)),
        ("idle time", (reference.gpu_idle_ms, report.gpu_idle_ms)),
    ):
        missing = [figure is None for figure in figures]
        if any(missing) and not all(missing):
            file = (reference if missing[0] else report).source.file
            yield f"{file} does not tell {what}; the change is unknown"


def _grouped(rows: Iterable[_Row], key: Callable[[_Row], _SiteKey]) -> dict[_SiteKey, list[_Row]]:
    groups: dict[_SiteKey, list[_Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _change(before: int | None, after: int | None) -> Change:
    if before is None or after is None:
        return "unknown"
    if not after:
        return "gone"
    if not before:
        return "new"
    return "fewer" if after < before else "more"


def _lost(sites: list[WaitSite], report: TraceReport) -> float | None:
    """The sum of the idle time caused, 0 without sites, None where the trace does not tell it."""
    if report.lost_gpu_ms is None:
        return None
    return sum(site.lost_gpu_ms or 0.0 for site in sites)


def _site_rank(row: SiteChange) -> tuple[float, int, str, str]:
    lost_ms = abs((row.lost_gpu_ms_after or 0.0) - (row.lost_gpu_ms_before or 0.0))
    return -lost_ms, -abs((row.count_after or 0) - (row.count_before or 0)), row.op, row.region


def _region_rank(row: RegionChange) -> tuple[float, float, tuple[str, ...]]:
    lost_ms = abs((row.lost_gpu_ms_after or 0.0) - (row.lost_gpu_ms_before or 0.0))
    return -lost_ms, -abs((row.wall_ms_after or 0.0) - (row.wall_ms_before or 0.0)), row.path
