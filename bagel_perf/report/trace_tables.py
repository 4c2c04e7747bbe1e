"""The tables of a trace report, by falling idle time of the GPU."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bagel_perf.records.sites import HINTS
from bagel_perf.records.traces import CAUSES, PATH_SEPARATOR, Cause, GapRow, RegionTime, TraceReport, WaitSite
from bagel_perf.report.table import NONE, Column, Table, counted

CAUSE_LABELS: dict[Cause, str] = {
    "host_sync": "in a host sync",
    "after_sync": "restart after a sync",
    "unrecorded_work": "work not recorded",
    "one_time_setup": "one-time set-up",
    "graph_capture": "graph capture",
    "allocator": "allocator",
    "data_loader": "data loader",
    "cpu_elsewhere": "CPU elsewhere",
    "launch_bound": "launch-bound",
    "launch_overhead": "launch overhead",
    "queued": "queued",
    "unknown": "unknown",
}
CAUSE_MEANINGS: dict[Cause, str] = {
    "host_sync": "the host was held in a wait and gave no work",
    "after_sync": "the host was back from a wait and issued the next work",
    "unrecorded_work": "the host waited, and nothing was recorded on any GPU",
    "one_time_setup": "a call that loads, allocates or creates",
    "graph_capture": "launches went into a graph, not to the GPU",
    "allocator": "steady steps take or give back memory of the device",
    "data_loader": "the program waited for its data loader",
    "cpu_elsewhere": "the launching thread did something else than issuing",
    "launch_bound": "the host was issuing, more slowly than the GPU worked",
    "launch_overhead": "inside the launch call, or on its way to the GPU",
    "queued": "launched already, and held up by a stream wait or a queue",
    "unknown": "the trace has no launch for the work that ended the gap",
}
OUTSIDE = "(outside of regions)"
UNNAMED = "(nothing recorded)"
EDGE = ("(begin of the window)", "(end of the window)")
MAX_NAME = 26
MAX_READ = 4000
"""Of a name: what is beyond cannot be seen, however much of the rest is noise."""
REGION_NAME = 40
PART_NAME = 48
WIDE_NAME = 64
FEW_GAPS = 3
LEAST_GAP = 0.01
"""Of the idle time: shorter gaps are shown only if there are few others."""
LEAST_BUSY = 0.01
"""Of the window: streams with less are left out of the table."""
LEAST_PART = 0.05
"""Of a gap: shorter parts are told together."""

_NOISE = re.compile(r"^void |\(anonymous namespace\)::|<unnamed>::|at::native::|at_cuda_detail::|cutlass::|at::cuda::")


def trace_tables(report: TraceReport, top: int) -> tuple[Table, ...]:
    """Idle time by cause and culprit, waits by place, phases, regions, worst gaps and streams; ``top`` rows of each."""
    tables = [idle_table(report)] if report.idle_by_cause_ms else []
    if report.culprits:
        tables.append(culprit_table(report, top))
    if report.sites:
        tables.append(site_table(report, top))
    if report.phases:
        tables.append(phase_table(report))
    if any(region.path for region in report.regions):
        tables.append(region_table(report, top))
    if report.gaps:
        tables.append(gap_table(report, top))
    if len(report.devices) > 1:
        tables.append(device_table(report))
    if len(report.streams) > 1:
        tables.append(stream_table(report, top))
    if report.launch_delays:
        tables.append(delay_table(report))
    return tuple(tables)


def idle_table(report: TraceReport) -> Table:
    """Idle time of the GPU by cause; the causes that occur."""
    total_ms = report.gpu_idle_ms or 0.0
    causes = sorted(
        (name for name in CAUSES if report.idle_by_cause_ms.get(name, 0.0) > 0),
        key=lambda name: -report.idle_by_cause_ms[name],
    )
    times = _numbers([report.idle_by_cause_ms[name] for name in causes])
    rows = tuple(
        (CAUSE_LABELS[name], time, f"{report.idle_by_cause_ms[name] / total_ms:.0%}", CAUSE_MEANINGS[name])
        for name, time in zip(causes, times, strict=True)
    )
    return Table(
        title="Why the GPU was idle",
        columns=(Column(header="cause"), *_numeric("idle (ms)", "share"), Column(header="meaning")),
        rows=rows,
        caption=f"summed over {len(report.devices)} devices" if len(report.devices) > 1 else "",
    )


def culprit_table(report: TraceReport, top: int) -> Table:
    """What the host was in while the GPU was idle, those first that took most; with what is known by name."""
    shown = report.culprits[:top]
    times = _numbers([culprit.idle_ms for culprit in shown])
    rows = tuple(
        (CAUSE_LABELS[culprit.cause], short_name(culprit.what, WIDE_NAME) or UNNAMED, str(culprit.parts), time)
        for culprit, time in zip(shown, times, strict=True)
    )
    return Table(
        title="What the host was in meanwhile",
        columns=(Column(header="cause"), Column(header="what"), *_numeric("parts", "idle (ms)")),
        rows=rows,
        caption=_cut("", len(report.culprits), top),
    )


def phase_table(report: TraceReport) -> Table:
    """The window, the warm-up and the steady steps, each by itself."""
    rows = [
        (
            f"{phase.name}, {counted(phase.steps, 'step')}",
            f"{phase.start_ms:.1f}",
            f"{phase.step_ms:.2f}",
            count_text(phase.host_syncs),
            count_text(phase.launches),
            _share(phase.gpu_busy_ms, phase.gpu_idle_ms),
            NONE if phase.gpu_idle_ms is None else f"{phase.gpu_idle_ms:.2f}",
            _main_cause(phase.idle_by_cause_ms),
        )
        for phase in report.phases
    ]
    whole = (
        *("whole window", "0.0", NONE, count_text(report.host_syncs), count_text(report.launches)),
        _share(report.gpu_busy_ms, report.gpu_idle_ms),
        NONE if report.gpu_idle_ms is None else f"{report.gpu_idle_ms:.2f}",
        _main_cause(report.idle_by_cause_ms),
    )
    headers = ("from (ms)", "step (ms)", "syncs", "launches", "GPU busy", "GPU idle")
    found_by = report.phases[0].found_by
    return Table(
        title="Warm-up and steady steps",
        columns=(Column(header="phase"), *_numeric(*headers), Column(header="idle mostly")),
        rows=(whole, *rows),
        caption=f"Times are in ms. Steps are by {short_name(found_by, WIDE_NAME)}; a step is the median of its phase.",
    )


def device_table(report: TraceReport) -> Table:
    """Each device with its busy time, by kind of work, and its idle time."""
    figures = [
        (each.busy_ms, each.compute_ms, each.exposed_communication_ms, each.exposed_copy_ms, each.idle_ms)
        for each in report.devices
    ]
    columns = [_numbers(column) for column in zip(*figures, strict=True)]
    rows = tuple((f"GPU {each.device}", *times) for each, *times in zip(report.devices, *columns, strict=True))
    headers = ("busy (ms)", "computing", "communication alone", "copies alone", "idle (ms)")
    return Table(title="Devices", columns=(Column(header="device"), *_numeric(*headers)), rows=rows)


def stream_table(report: TraceReport, top: int) -> Table:
    """The streams that did something, the busiest first."""
    worth = [each for each in report.streams if each.busy_ms >= LEAST_BUSY * report.window_ms]
    shown = worth[:top]
    busy, idle = _numbers([each.busy_ms for each in shown]), _numbers([each.idle_ms for each in shown])
    rows = tuple(
        (f"GPU {each.device}, stream {each.stream}", str(each.activities), *times)
        for each, *times in zip(shown, busy, idle, strict=True)
    )
    return Table(
        title="Streams",
        columns=(Column(header="stream"), *_numeric("activities", "busy (ms)", "idle (ms)")),
        rows=rows,
        caption=_cut(_few(len(report.streams) - len(worth)), len(worth), top),
    )


def delay_table(report: TraceReport) -> Table:
    """How long work took from its launch call to its begin, by class."""
    rows = tuple(
        (each.work, str(each.count), f"{each.median_us:.1f}", f"{each.p95_us:.1f}", f"{each.longest_us:.1f}")
        for each in report.launch_delays
    )
    return Table(
        title="Launch delay",
        columns=(Column(header="work"), *_numeric("count", "median (us)", "95% (us)", "longest (us)")),
        rows=rows,
        caption="A delay is from the begin of the launch call to that of the work. It is long where work queues.",
    )


def site_table(report: TraceReport, top: int) -> Table:
    """Waits by place, those first that cost the GPU most."""
    shown = report.sites[:top]
    columns = [
        [HINTS[site.kind].label for site in shown],
        [place_of(site) for site in shown],
        [str(site.count) for site in shown],
        _numbers([site.blocked_ms for site in shown]),
    ]
    headers, caption = ["count", "blocked"], "Blocked is how long the host was held, in ms."
    if report.lost_gpu_ms is not None:
        headers += ["idle caused", "saving"]
        columns += [
            _numbers([site.lost_gpu_ms for site in shown]),
            [range_text(site.predicted_saving_ms) for site in shown],
        ]
        caption = "Times are in ms. Idle caused lasts until the next work. Saving is what a replay predicts."
    return Table(
        title="Host syncs",
        columns=(Column(header="kind"), Column(header="where"), *_numeric(*headers)),
        rows=tuple(zip(*columns, strict=True)),
        caption=_cut(caption, len(report.sites), top),
    )


def region_table(report: TraceReport, top: int) -> Table:
    """Regions as a tree: each contains those below it that stand further right."""
    shown = report.regions[:top]
    if len(report.regions) > top and report.regions[-1].path == ():
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
        headers += ["GPU idle", "by syncs"]
        columns.append(_numbers([region.gpu_idle_ms for region in shown]))
        columns.append(_numbers([region.lost_gpu_ms for region in shown]))
        columns.append([_main_cause(region.idle_by_cause_ms) for region in shown])
        mostly = (Column(header="idle mostly"),)
    return Table(
        title="Regions",
        columns=(Column(header="region"), *_numeric(*headers), *mostly),
        rows=tuple(zip(*columns, strict=True)),
        caption=_cut(
            "Times are in ms. A region contains those indented below it. Busy is of the work that it launched, "
            "and idle is within its time.",
            len(report.regions),
            top,
        ),
    )


def gap_table(report: TraceReport, top: int) -> Table:
    """The longest gaps, each with the work around it and its parts: how long, why, and what the host was in."""
    worth_ms = LEAST_GAP * (report.gpu_idle_ms or 0.0)
    worth = [gap for rank, gap in enumerate(report.gaps) if rank < FEW_GAPS or gap.duration_ms >= worth_ms]
    shown = worth[:top]
    several = len(report.devices) > 1
    rows = tuple(
        (
            f"{gap.start_ms:.3f}" + (f"\nGPU {gap.device}" if several else ""),
            length,
            f"{short_name(gap.before) or EDGE[0]}\n{short_name(gap.after) or EDGE[1]}",
            _parts(gap),
        )
        for gap, length in zip(shown, _numbers([gap.duration_ms for gap in shown]), strict=True)
    )
    return Table(
        title="Worst gaps",
        columns=(*_numeric("at (ms)", "idle (ms)"), Column(header="before, after"), Column(header="parts of it")),
        rows=rows,
        caption=_cut(f"Gaps of less than {LEAST_GAP:.0%} of the idle time are left out.", len(worth), top),
    )


def place_of(site: WaitSite) -> str:
    """Where a wait is: the line if it is known, the operator, else call and region."""
    line = f"{site.file}:{site.line} {site.function}" if site.line else f"{site.file} {site.function}".strip()
    region = "" if line or not site.region else f"in {short_name(site.region, REGION_NAME)}"
    operator = short_name(short_op(site.op) or site.api, WIDE_NAME)
    return ", ".join(part for part in (line, operator, region) if part)


def short_op(op: str) -> str:
    """The outermost operator if it is PyTorch's own, which the kind of the wait completes; else all that is known."""
    outer = op.split(PATH_SEPARATOR)[0]
    return outer.removeprefix("aten::") if outer.startswith("aten::") else op


def short_name(name: str, width: int = MAX_NAME) -> str:
    """A kernel's or copy's name without what all have, or a wait by its kind and place, cut to a width."""
    kind, space, place = _NOISE.sub("", name[:MAX_READ]).partition(" ")
    plain = f"{label_of(kind) if '_' in kind else kind}{space}{place}"
    return plain if len(plain) <= width else plain[: width - 2] + ".."


_LABELS: Mapping[str, str] = {kind: hint.label for kind, hint in HINTS.items()}


def label_of(kind: str) -> str:
    """The words for a kind of wait; the kind itself where it is none that is known."""
    return _LABELS.get(kind, kind)


def count_text(count: int | None) -> str:
    """A number of things, a dash where it is unknown."""
    return NONE if count is None else str(count)


def _few(number: int) -> str:
    return f"{counted(number, 'stream')} busy for less than {LEAST_BUSY:.0%} of the window left out" if number else ""


def _parts(gap: GapRow) -> str:
    """The parts that matter, in their order, and the innermost region of the gap."""
    told = [part for part in gap.parts if part.duration_ms >= LEAST_PART * gap.duration_ms]
    lines = [
        f"{_number(part.duration_ms)} {CAUSE_LABELS[part.cause]}"
        + (f": {short_name(part.what, PART_NAME)}" * bool(part.what))
        for part in told
    ]
    rest_ms = gap.duration_ms - sum(part.duration_ms for part in told)
    if len(told) < len(gap.parts) and told:
        lines[-1] += f"; rest {_number(max(rest_ms, 0.0))}"
    region = gap.region.split(PATH_SEPARATOR)[-1]
    named = any(region and part.what.startswith(region) for part in told)
    return "\n".join([*lines, *([f"in {short_name(region, PART_NAME)}"] if region and not named else [])])


def _main_cause(idle_ms: dict[Cause, float]) -> str:
    """The cause of most of some idle time."""
    cause = max(idle_ms, key=lambda name: idle_ms[name], default=None)
    return NONE if cause is None or not idle_ms[cause] else CAUSE_LABELS[cause]


def _share(busy_ms: float | None, idle_ms: float | None) -> str:
    if busy_ms is None or idle_ms is None or not busy_ms + idle_ms:
        return NONE
    return f"{busy_ms / (busy_ms + idle_ms):.0%}"


def _region_name(region: RegionTime) -> str:
    if not region.path:
        return OUTSIDE
    return "  " * (len(region.path) - 1) + short_name(region.path[-1], REGION_NAME)


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
    cut = f"{top} of {number} are shown, and --top shows more." if number > top else ""
    return "\n".join(part for part in (caption, cut) if part)
