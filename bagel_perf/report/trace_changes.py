"""The tables of what changed from one trace to another."""

from __future__ import annotations

from bagel_perf.records.sites import HINTS
from bagel_perf.records.trace_differences import KernelChange, SiteChange, TotalChange, TraceDifference
from bagel_perf.records.traces import PATH_SEPARATOR
from bagel_perf.report.table import NONE, Column, Table
from bagel_perf.report.trace_tables import CAUSE_LABELS, OUTSIDE, count_text, short_name

LABELS = {
    "window_ms": "window (ms)",
    "host_syncs": "host syncs",
    "blocked_ms": "blocked (ms)",
    "launches": "launches",
    "gpu_busy_ms": "GPU busy (ms)",
    "gpu_idle_ms": "GPU idle (ms)",
    "lost_gpu_ms": "idle caused by syncs (ms)",
}
KERNEL_WIDTH = 52


def change_tables(difference: TraceDifference, top: int) -> tuple[Table, ...]:
    """Totals, then waits, kernels and regions that changed; ``top`` rows of each."""
    tables = [totals_table(difference)]
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
    waits = [(total.before, total.after) for total in difference.totals if total.name == "host_syncs"]
    is_told = not any(None in each for each in waits)
    if not difference.syncs and is_told:
        lines.append(f"- against {difference.reference}: the same waits from the same places")
    return tuple(lines)


def totals_table(difference: TraceDifference) -> Table:
    """Figures of the whole traces, idle time by cause among them, before and after."""
    causes: dict[str, str] = {name: f"idle: {label} (ms)" for name, label in CAUSE_LABELS.items()}
    rows = []
    for total in difference.totals:
        rows.append((LABELS.get(total.name, total.name), *_before_and_after(total)))
        if total.name == "gpu_idle_ms":
            rows += [(causes.get(each.name, each.name), *_before_and_after(each)) for each in difference.idle_by_cause]
    return Table(
        title=f"Against {difference.reference}",
        columns=(Column(header="total"), *_numeric("before", "after", "change")),
        rows=tuple(rows),
    )


def _before_and_after(total: TotalChange) -> tuple[str, str, str]:
    return _text(total.before), _text(total.after), _delta(total.before, total.after)


def _syncs(difference: TraceDifference, top: int) -> Table:
    rows = tuple(
        (
            change.change,
            HINTS[change.kind].label,
            _place(change),
            _counts(change),
            f"{_text(change.lost_gpu_ms_before)} -> {_text(change.lost_gpu_ms_after)}",
        )
        for change in difference.syncs[:top]
    )
    return Table(
        title="Host syncs that changed",
        columns=(
            *(Column(header=header) for header in ("change", "kind", "where")),
            *_numeric("count", "idle caused (ms)"),
        ),
        rows=rows,
        caption=_cut(len(difference.syncs), top),
    )


def _kernels(difference: TraceDifference, top: int) -> Table:
    rows = tuple(
        (
            change.change,
            short_name(change.name, KERNEL_WIDTH),
            _counts(change),
            f"{_text(change.total_ms_before)} -> {_text(change.total_ms_after)}",
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
        columns=(Column(header="region"), *_numeric("calls", "syncs", "idle caused (ms)", "GPU idle (ms)")),
        rows=rows,
        caption=_cut(len(difference.regions), top),
    )


def _place(change: SiteChange) -> str:
    line = f"{change.file}:{change.line} {change.function}" if change.file else ""
    region = "" if line or not change.region else f"in {change.region}"
    return ", ".join(part for part in (line, change.op, region) if part) or OUTSIDE


def _counts(change: SiteChange | KernelChange) -> str:
    return f"{count_text(change.count_before)} -> {count_text(change.count_after)}"


def _text(value: float | None) -> str:
    if value is None:
        return NONE
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _delta(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return NONE if before is after else "unknown"
    change = after - before
    if not change:
        return "0"
    percent = f" ({change / before:+.0%})" if before else ""
    return (f"{change:+d}" if isinstance(change, int) else f"{change:+.3f}") + percent


def _numeric(*headers: str) -> tuple[Column, ...]:
    return tuple(Column(header=header, numeric=True) for header in headers)


def _cut(number: int, top: int) -> str:
    return f"{top} of {number} are shown, and --top shows more." if number > top else ""
