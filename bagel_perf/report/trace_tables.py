"""The tables of a trace report, by falling lost time of the GPU."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bagel_perf.report.table import NONE, Column, Table
from bagel_perf.schema.traces import (
    IDLE_CLASSES,
    PATH_SEPARATOR,
    GapRow,
    IdleClass,
    RegionTime,
    TraceReport,
    WaitSite,
)

IDLE_LABELS: dict[IdleClass, str] = {
    "after_sync": "after a sync",
    "launch_bound": "launch-bound",
    "cpu_elsewhere": "CPU elsewhere",
    "queued": "queued",
    "nothing_to_do": "nothing to do",
    "unknown": "unknown",
}
IDLE_MEANINGS: dict[IdleClass, str] = {
    "after_sync": "the GPU ran dry while the host was held in a wait",
    "launch_bound": "the host was issuing, more slowly than the GPU worked",
    "cpu_elsewhere": "the launching thread was in no CUDA call, nor op that makes one",
    "queued": "the next work was launched already: latency or dependency",
    "nothing_to_do": "before the first and after the last work of the GPU",
    "unknown": "the trace has no launch for the work that ended the gap",
}
OUTSIDE = "(outside of regions)"
MAX_NAME = 26

_NOISE = re.compile(r"^void |\(anonymous namespace\)::|<unnamed>::|at::native::|at_cuda_detail::|cutlass::|at::cuda::")


def trace_tables(report: TraceReport, top: int) -> tuple[Table, ...]:
    """Idle time by class, waits by place, regions and the worst gaps; ``top`` rows of each."""
    tables = [idle_table(report)] if report.idle_ms else []
    if report.sites:
        tables.append(site_table(report, top))
    if any(region.path for region in report.regions):
        tables.append(region_table(report, top))
    if report.gaps:
        tables.append(gap_table(report, top))
    return tuple(tables)


def idle_table(report: TraceReport) -> Table:
    """Idle time of the GPU by class; the classes that occur."""
    total_ms = report.gpu_idle_ms or 0.0
    classes = sorted(
        (name for name in IDLE_CLASSES if report.idle_ms[name] > 0), key=lambda name: -report.idle_ms[name]
    )
    times = _numbers([report.idle_ms[name] for name in classes])
    rows = tuple(
        (IDLE_LABELS[name], time, f"{report.idle_ms[name] / total_ms:.0%}", IDLE_MEANINGS[name])
        for name, time in zip(classes, times, strict=True)
    )
    return Table(
        title="Why the GPU was idle",
        columns=(Column(header="class"), *_numeric("idle (ms)", "share"), Column(header="meaning")),
        rows=rows,
        caption=f"summed over {len(report.devices)} devices" if len(report.devices) > 1 else "",
    )


def site_table(report: TraceReport, top: int) -> Table:
    """Waits by place, those first that cost the GPU most."""
    shown = report.sites[:top]
    columns = [
        [site.kind for site in shown],
        [place_of(site) for site in shown],
        [str(site.count) for site in shown],
        _numbers([site.blocked_ms for site in shown]),
    ]
    headers, caption = ["count", "blocked"], "ms that the host was held"
    if report.lost_gpu_ms is not None:
        headers += ["lost GPU", "price"]
        columns += [_numbers([site.lost_gpu_ms for site in shown]), [range_text(site.price_ms) for site in shown]]
        caption = "ms; lost GPU: idle time that opened in the wait; price: what the program would take less without"
    return Table(
        title="Host syncs",
        columns=(Column(header="kind"), Column(header="where"), *_numeric(*headers)),
        rows=tuple(zip(*columns, strict=True)),
        caption=_cut(caption, len(report.sites), top),
    )


def region_table(report: TraceReport, top: int) -> Table:
    """Regions as a tree: each contains those below it that stand further right."""
    shown = report.regions[:top]
    if report.regions[-1].path == () and len(report.regions) > top:
        shown = (*report.regions[: top - 1], report.regions[-1])
    columns = [
        [_region_name(region) for region in shown],
        [str(region.calls) if region.path else NONE for region in shown],
        [count_text(region.launches) for region in shown],
        [count_text(region.host_syncs) for region in shown],
        _numbers([region.blocked_ms for region in shown]),
    ]
    headers = ["calls", "launches", "syncs", "blocked"]
    if report.gpu_busy_ms is not None:
        headers.append("GPU busy")
        columns.append(_numbers([region.gpu_busy_ms for region in shown]))
    mostly: tuple[Column, ...] = ()
    if report.gpu_idle_ms is not None:
        headers += ["GPU idle", "lost GPU"]
        columns.append(_numbers([region.gpu_idle_ms for region in shown]))
        columns += [_numbers([region.lost_gpu_ms for region in shown]), [_main_cause(region) for region in shown]]
        mostly = (Column(header="idle mostly"),)
    return Table(
        title="Regions",
        columns=(Column(header="region"), *_numeric(*headers), *mostly),
        rows=tuple(zip(*columns, strict=True)),
        caption=_cut("ms; a region contains those that are indented below it", len(report.regions), top),
    )


def gap_table(report: TraceReport, top: int) -> Table:
    """The longest gaps, each with the work before and after it and what the launching thread did meanwhile."""
    shown = report.gaps[:top]
    several = len(report.devices) > 1
    rows = tuple(
        (
            f"{gap.start_ms:.3f}" + (f"\nGPU {gap.device}" if several else ""),
            length,
            IDLE_LABELS[gap.cause],
            f"{short_name(gap.before)}\n{short_name(gap.after)}",
            _host(gap),
        )
        for gap, length in zip(shown, _numbers([gap.duration_ms for gap in shown]), strict=True)
    )
    return Table(
        title="Worst gaps",
        columns=(
            *_numeric("at (ms)", "idle (ms)"),
            Column(header="class"),
            Column(header="before, after"),
            Column(header="meanwhile on the host"),
        ),
        rows=rows,
        caption=_cut("", len(report.gaps), top),
    )


def place_of(site: WaitSite) -> str:
    """Where a wait is: the line if it is known, the operator, else call and region."""
    line = f"{site.file}:{site.line} {site.function}" if site.line else f"{site.file} {site.function}".strip()
    region = "" if line or not site.region else f"in {site.region}"
    return ", ".join(part for part in (line, short_op(site.op) or site.api, region) if part)


def short_op(op: str) -> str:
    """The outermost operator if it is PyTorch's own, which the kind of the wait completes; else all that is known."""
    outer = op.split(PATH_SEPARATOR)[0]
    return outer.removeprefix("aten::") if outer.startswith("aten::") else op


def short_name(name: str, width: int = MAX_NAME) -> str:
    """A kernel's or copy's name without what all have, cut to a width."""
    plain = _NOISE.sub("", name)
    return plain if len(plain) <= width else plain[: width - 2] + ".."


def count_text(count: int | None) -> str:
    """A number of things, a dash where it is unknown."""
    return NONE if count is None else str(count)


def _host(gap: GapRow) -> str:
    during = gap.during or ("" if gap.wait else "nothing recorded")
    if gap.region:
        during = f"{during}, in {gap.region}" if during else f"in {gap.region}"
    return "\n".join(part for part in (gap.wait, during) if part)


def _main_cause(region: RegionTime) -> str:
    causes = sorted(region.idle_ms.items(), key=lambda item: -item[1])
    if not causes or not region.gpu_idle_ms:
        return NONE
    return IDLE_LABELS[causes[0][0]]


def _region_name(region: RegionTime) -> str:
    if not region.path:
        return OUTSIDE
    return "  " * (len(region.path) - 1) + region.path[-1]


def _numeric(*headers: str) -> tuple[Column, ...]:
    return tuple(Column(header=header, numeric=True) for header in headers)


def _numbers(values: Sequence[float | None]) -> list[str]:
    """Numbers of a column with equal decimals, as many as its largest one needs."""
    largest = max((value for value in values if value is not None), default=0.0)
    return [NONE if value is None else f"{value:.{_decimals(largest)}f}" for value in values]


def _number(value: float) -> str:
    return f"{value:.{_decimals(value)}f}"


def _decimals(largest: float) -> int:
    return 0 if largest >= 1000 else 1 if largest >= 100 else 2 if largest >= 10 else 3


def range_text(values: tuple[float, float] | None) -> str:
    """``LOW to HIGH``, one number where they do not differ."""
    if values is None:
        return NONE
    low, high = (f"{value:.{_decimals(values[1])}f}" for value in values)
    return low if low == high else f"{low} to {high}"


def _cut(caption: str, number: int, top: int) -> str:
    cut = f"{top} of {number}; --top shows more" if number > top else ""
    return "\n".join(part for part in (caption, cut) if part)
