"""The tables of what changed from one trace to another."""

from __future__ import annotations

from bagel_perf.report.table import NONE, Column, Table
from bagel_perf.report.trace_tables import OUTSIDE, short_name
from bagel_perf.schema.trace_differences import SiteChange, TraceDifference
from bagel_perf.schema.traces import PATH_SEPARATOR

LABELS = {
    "window_ms": "window (ms)",
    "host_syncs": "host syncs",
    "blocked_ms": "blocked (ms)",
    "launches": "launches",
    "gpu_busy_ms": "GPU busy (ms)",
    "gpu_idle_ms": "GPU idle (ms)",
    "lost_gpu_ms": "lost GPU (ms)",
}
KERNEL_WIDTH = 52


def change_tables(difference: TraceDifference, top: int) -> tuple[Table, ...]:
    """Totals, then waits, kernels and regions that changed; ``top`` rows of each."""
    tables = [_totals(difference)]
    if difference.syncs:
        tables.append(_syncs(difference, top))
    if difference.kernels:
        tables.append(_kernels(difference, top))
    if any(region.path for region in difference.regions):
        tables.append(_regions(difference, top))
    return tuple(tables)


def change_lines(difference: TraceDifference) -> tuple[str, ...]:
    """What keeps the traces from being compared at face value, and whether any wait changed."""
    lines = [f"- against {difference.reference}: {note}" for note in difference.notes]
    if not difference.syncs:
        lines.append(f"- against {difference.reference}: the same waits from the same places")
    return tuple(lines)


def _totals(difference: TraceDifference) -> Table:
    rows = tuple(
        (LABELS[total.name], _text(total.before), _text(total.after), _delta(total.before, total.after))
        for total in difference.totals
    )
    return Table(
        title=f"Against {difference.reference}",
        columns=(Column(header="total"), *_numeric("before", "after", "change")),
        rows=rows,
    )


def _syncs(difference: TraceDifference, top: int) -> Table:
    rows = tuple(
        (
            change.change,
            change.kind,
            _place(change),
            f"{change.count_before} -> {change.count_after}",
            f"{_text(change.lost_gpu_ms_before)} -> {_text(change.lost_gpu_ms_after)}",
        )
        for change in difference.syncs[:top]
    )
    return Table(
        title="Host syncs that changed",
        columns=(
            *(Column(header=header) for header in ("change", "kind", "where")),
            *_numeric("count", "lost GPU (ms)"),
        ),
        rows=rows,
        caption=_cut(len(difference.syncs), top),
    )


def _kernels(difference: TraceDifference, top: int) -> Table:
    rows = tuple(
        (
            change.change,
            short_name(change.name, KERNEL_WIDTH),
            f"{change.count_before} -> {change.count_after}",
            f"{change.total_ms_before:.3f} -> {change.total_ms_after:.3f}",
        )
        for change in difference.kernels[:top]
    )
    return Table(
        title="Kernels whose number changed",
        columns=(Column(header="change"), Column(header="kernel"), *_numeric("count", "time (ms)")),
        rows=rows,
        caption=_cut(len(difference.kernels), top),
    )


def _regions(difference: TraceDifference, top: int) -> Table:
    rows = tuple(
        (
            PATH_SEPARATOR.join(change.path) or OUTSIDE,
            f"{_text(change.calls_before)} -> {_text(change.calls_after)}",
            f"{_text(change.host_syncs_before)} -> {_text(change.host_syncs_after)}",
            f"{_text(change.lost_gpu_ms_before)} -> {_text(change.lost_gpu_ms_after)}",
            f"{_text(change.gpu_idle_ms_before)} -> {_text(change.gpu_idle_ms_after)}",
        )
        for change in difference.regions[:top]
    )
    return Table(
        title="Regions",
        columns=(Column(header="region"), *_numeric("calls", "syncs", "lost GPU (ms)", "GPU idle (ms)")),
        rows=rows,
        caption=_cut(len(difference.regions), top),
    )


def _place(change: SiteChange) -> str:
    line = f"{change.file}:{change.line} {change.function}" if change.file else ""
    region = "" if line or not change.region else f"in {change.region}"
    return ", ".join(part for part in (line, change.op, region) if part) or OUTSIDE


def _text(value: float | None) -> str:
    if value is None:
        return NONE
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _delta(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return NONE
    change = after - before
    if not change:
        return "0"
    percent = f" ({change / before:+.0%})" if before else ""
    return (f"{change:+d}" if isinstance(change, int) else f"{change:+.3f}") + percent


def _numeric(*headers: str) -> tuple[Column, ...]:
    return tuple(Column(header=header, numeric=True) for header in headers)


def _cut(number: int, top: int) -> str:
    return f"{top} of {number}; --top shows more" if number > top else ""
