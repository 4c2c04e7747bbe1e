"""The sections of a page of a trace, each with its tables and drawings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from bagel_perf.records.traces import LANES, Lanes, StepTime, TraceReport, WaitSite
from bagel_perf.report.html.content import (
    Block,
    Bullets,
    Fold,
    Heading,
    Plot,
    Section,
    TableBlock,
    Text,
    tables,
)
from bagel_perf.report.html.timeline_data import timeline_data
from bagel_perf.report.html.timeline_plot import Strip, is_drawn_whole, timeline_svg
from bagel_perf.report.html.trace_plots import cause_plot, queue_plot, trace_links
from bagel_perf.report.html.words import sentence
from bagel_perf.report.table import NONE, Column, Table, counted
from bagel_perf.report.trace_changes import change_tables
from bagel_perf.report.trace_summary import (
    note_lines,
    source_line,
)
from bagel_perf.report.trace_tables import (
    CAUSE_LABELS,
    culprit_table,
    delay_table,
    gap_table,
    idle_table,
    phase_table,
    place_of,
    region_table,
    short_name,
    site_table,
    stream_table,
)
from bagel_perf.traces.names import class_times, is_communication

NAME_WIDTH = 160
MAX_STEPS = 60
OPEN_ROWS = 10
"""Of a table: the rest is folded."""
TIMELINE = (
    "Gaps between bars are idle. Host syncs are coloured by kind and drawn a pixel wide at least, idle time by cause. "
    "Where segments are too many to draw, neighbours share a bar, as high as the part of it that they fill."
)
WHOLE_WINDOW = "The whole window"
WINDOW_AXIS, REGION_AXIS = "ms since the window began", "ms since the call began"
NO_SITE = -1
NO_IDLE = "Why the GPU was idle is unknown: the trace does not tell when it was."
NO_SYNCS = "No host sync in the window."
UNKNOWN_SYNCS = "Host syncs are unknown: the trace has no calls of the runtime."
NO_GAPS = "No gap in the window."
NO_NOTES = "Nothing was assumed or left out."
FLAT = "No part of the program is named: annotations (record_function, NVTX ranges) make regions."
NO_PHASES = "No steps can be told apart: call step() of the profiler, or annotate each by record_function or NVTX."


def idle_section(report: TraceReport, top: int) -> Section:
    """The causes as bars and as a table, then what the host was in."""
    blocks: list[Block] = []
    if report.gpu_idle_ms is None:
        blocks.append(Text(text=NO_IDLE))
    else:
        blocks += _plots(cause_plot(report))
        blocks += tables(idle_table(report))
        if any(culprit.what for culprit in report.culprits):
            blocks += folded(culprit_table(report, top))
    return Section(anchor="idle", title="Why the GPU was idle", blocks=tuple(blocks))


def lanes_section(report: TraceReport) -> Section:
    """The whole window and the calls that left the GPU idle most as drawings, then all as a file for viewers."""
    blocks: list[Block] = []
    drawn: dict[str, list[Strip]] = {}
    others = [lanes for lanes in report.lanes[1:] if not lanes.region and svg_can_hold(lanes)]
    for number, lanes in enumerate(report.lanes):
        if svg_can_hold(lanes) and lanes not in others:
            title = lanes.region or WHOLE_WINDOW
            strips = [strip_of(report, lanes)] + [strip_of(report, each) for each in others if not lanes.region]
            drawn[f"{title} at {lanes.start_ms:.3f} ms"] = strips
            heading = f"{short_name(title, NAME_WIDTH)}, {_stretch(lanes)}" if lanes.region else WHOLE_WINDOW
            caption = (
                TIMELINE if not number else f"The call of {short_name(title, NAME_WIDTH)} that left the GPU idle most."
            )
            axis = REGION_AXIS if lanes.region else WINDOW_AXIS
            blocks += [Heading(text=heading), timeline_plot(f"lanes{number}", strips, axis, heading, caption)]
    if drawn:
        blocks += [Heading(text="The same in a trace viewer"), trace_links(drawn)]
    return Section(
        anchor="timeline", title="Timeline", blocks=tuple(blocks) or (Text(text="There is nothing to draw."),)
    )


def timeline_plot(key: str, strips: Sequence[Strip], axis: str, label: str, caption: str) -> Plot:
    """Strips as a drawing, and as what the script of the page draws in its place."""
    return Plot(svg=timeline_svg(key, strips, axis), label=label, caption=caption, lanes=timeline_data(strips, axis))


def strip_of(report: TraceReport, lanes: Lanes, name: str = "") -> Strip:
    """Lanes of a trace under a name, that of their device where there are several; with the rows of their waits."""
    known = [each if each < len(report.sites) else NO_SITE for each in lanes.sites]
    is_second = lanes.device is not None and not lanes.region and lanes is not report.lanes[0]
    return Strip(
        variant=name or (f"GPU {lanes.device}" if lanes.device is not None else ""),
        lanes=lanes,
        places=tuple(_wait_text(report.sites[each]) if each >= 0 else "" for each in known),
        rows=tuple(f"wait{each}" if each >= 0 else "" for each in known),
        names=("gpu", "idle") if is_second else LANES,
    )


def _wait_text(site: WaitSite) -> str:
    """The place of a wait with what all waits there took."""
    times = f"host blocked {_ms(site.blocked_ms)} ms, GPU idle through it {_ms(site.lost_gpu_ms)} ms"
    return f"{place_of(site)}; {counted(site.count, 'time')} in the window, {times}"


def svg_can_hold(lanes: Lanes) -> bool:
    """Whether there is a stretch of time to draw, and it is known how full its bars are."""
    return lanes.end_ms > lanes.start_ms and is_drawn_whole(lanes)


def syncs_section(report: TraceReport, top: int) -> Section:
    """The places that wait."""
    empty = UNKNOWN_SYNCS if report.host_syncs is None else NO_SYNCS
    ids = tuple(f"wait{number}" for number in range(min(top, len(report.sites))))
    blocks: Iterable[Block] = folded(site_table(report, top), ids) if report.sites else (Text(text=empty),)
    return Section(anchor="syncs", title="Waits by line", blocks=tuple(blocks))


def regions_section(report: TraceReport, top: int) -> Section:
    """The parts of the program that annotations name."""
    has_paths = any(region.path for region in report.regions)
    blocks: Iterable[Block] = tables(region_table(report, top)) if has_paths else (Text(text=FLAT),)
    return Section(anchor="regions", title="Regions", blocks=tuple(blocks))


def gaps_section(report: TraceReport, top: int) -> Section:
    """The longest gaps with their parts."""
    empty = NO_IDLE if report.gpu_idle_ms is None else NO_GAPS
    blocks: Iterable[Block] = folded(gap_table(report, top)) if report.gaps else (Text(text=empty),)
    return Section(anchor="gaps", title="Worst gaps", blocks=tuple(blocks))


def phases_section(report: TraceReport) -> Section:
    """Warm-up against steady steps, and the steps one by one."""
    if not report.phases:
        return Section(anchor="phases", title="Warm-up and steady steps", blocks=(Text(text=NO_PHASES),))
    blocks = (*tables(phase_table(report)), *(folded(step_table(report.steps)) if report.steps else ()))
    return Section(anchor="phases", title="Warm-up and steady steps", blocks=blocks)


def step_table(steps: Sequence[StepTime]) -> Table:
    """Each step with its times; of many the longest."""
    chosen = sorted(steps, key=lambda step: -step.wall_ms)[:MAX_STEPS]
    shown = sorted(chosen, key=lambda step: step.number)
    rows = tuple(
        (
            f"{step.number}{' (warm-up)' * step.is_warm_up}",
            f"{step.start_ms:.2f}",
            *map(_ms, (step.wall_ms, step.gpu_busy_ms, step.gpu_idle_ms, step.exposed_communication_ms)),
            NONE if step.host_syncs is None else str(step.host_syncs),
            _main_cause(step),
        )
        for step in shown
    )
    headers = ("at (ms)", "wall (ms)", "GPU busy (ms)", "GPU idle (ms)", "exposed comm (ms)", "host syncs")
    return Table(
        title="Steps",
        columns=(Column(header="step"), *_numeric(*headers), Column(header="idle mostly")),
        rows=rows,
        caption=f"the {MAX_STEPS} longest of {len(steps)}" if len(steps) > MAX_STEPS else "",
    )


def streams_section(report: TraceReport, top: int) -> Section:
    """How much was queued over time, the streams, and how late work began after its launch."""
    blocks: list[Block] = list(_plots(queue_plot(report)))
    if report.queues:
        blocks.append(Bullets(items=tuple(_queue_lines(report))))
    found = [stream_table(report, top)] if report.streams else []
    found += [delay_table(report)] if report.launch_delays else []
    blocks += tables(*found)
    empty = (Text(text="The trace does not tell which call launched which work."),)
    return Section(anchor="streams", title="Streams, queue and launch delay", blocks=tuple(blocks) or empty)


def _queue_lines(report: TraceReport) -> Iterator[str]:
    for queue in report.queues:
        yield (
            f"GPU {queue.device}: {queue.mean:.1f} launches queued in the mean, {queue.longest} at most, none for "
            f"{queue.empty_share:.0%} of the window"
        )


def kernels_section(report: TraceReport, top: int) -> Section:
    """Time by class of kernel, then the kernels that took most."""
    if not report.kernels:
        return Section(anchor="kernels", title="Kernels", blocks=(Text(text="No kernel was recorded."),))
    blocks = (*tables(_class_table(report)), *folded(_kernel_table(report, top)))
    return Section(anchor="kernels", title="Kernels", blocks=blocks)


def _class_table(report: TraceReport) -> Table:
    computing = [kernel for kernel in report.kernels if not is_communication(kernel.name)]
    classes = [(each.name, each.count, each.total_ms) for each in class_times(computing, ())]
    others = [kernel for kernel in report.kernels if is_communication(kernel.name)]
    if others:
        count, total_ms = sum(each.count for each in others), sum(each.total_ms for each in others)
        classes.append(("communication", count, total_ms))  # type: ignore[arg-type]
    all_ms = sum(total_ms for *_, total_ms in classes)
    return Table(
        title="Kernels by class",
        columns=(Column(header="class"), *_numeric("count", "time (ms)", "share")),
        rows=tuple((name, str(count), f"{ms:.3f}", _percent(ms, all_ms)) for name, count, ms in classes),
        caption="classes by the names of kernels; kernels beside each other count both",
    )


def _kernel_table(report: TraceReport, top: int) -> Table:
    all_ms = sum(kernel.total_ms for kernel in report.kernels)
    rows = tuple(
        (
            short_name(kernel.name, NAME_WIDTH),
            str(kernel.count),
            f"{kernel.total_ms:.3f}",
            f"{1e3 * kernel.total_ms / kernel.count:.1f}" if kernel.count else NONE,
            _percent(kernel.total_ms, all_ms),
        )
        for kernel in report.kernels[:top]
    )
    cut = f"{top} of {len(report.kernels)}" if len(report.kernels) > top else ""
    return Table(
        title="Kernels",
        columns=(Column(header="kernel"), *_numeric("count", "time (ms)", "mean (us)", "share")),
        rows=rows,
        caption=cut,
    )


def changes_section(report: TraceReport, top: int) -> tuple[Section, ...]:
    """What changed since the reference; nothing where there is none."""
    difference = report.difference
    if difference is None:
        return ()
    notes = (Bullets(items=tuple(map(sentence, difference.notes))),) if difference.notes else ()
    blocks = (*notes, *tables(*change_tables(difference, top)))
    return (Section(anchor="changes", title="What changed", blocks=blocks),)


def notes_section(report: TraceReport, more: Sequence[str] = ()) -> Section:
    """What was assumed or left out, and what is known of the recording."""
    source = report.source
    rows = [
        ("file", source.file),
        ("format", source.format),
        ("events", str(source.num_events)),
        ("stacks of Python", "yes" if source.has_stacks else "no"),
        *((f"GPU {device.device}", device.name or "unnamed") for device in report.devices),
        *sorted(source.versions.items()),
    ]
    notes = tuple(sentence(note) for note in (*more, *(line.removeprefix("- ") for line in note_lines(report))))
    table = Table(
        title="Recording",
        columns=(Column(header="what"), Column(header="value")),
        rows=tuple(rows),
        caption=source_line(report),
    )
    return Section(
        anchor="notes",
        title="Notes and recording",
        folded="what was assumed or left out, and what was recorded",
        blocks=(Bullets(items=notes) if notes else Text(text=NO_NOTES), *tables(table)),
    )


def _plots(plot: Plot | None) -> tuple[Plot, ...]:
    return () if plot is None else (plot,)


def _stretch(lanes: Lanes) -> str:
    return f"{lanes.start_ms:.2f} to {lanes.end_ms:.2f} ms"


def folded(table: Table, row_ids: tuple[str, ...] = ()) -> Iterator[TableBlock | Fold]:
    """A table whose first rows are open, and the rest closed until somebody asks; ``row_ids`` are anchors."""
    first, rest = table.rows[:OPEN_ROWS], table.rows[OPEN_ROWS:]
    if len(rest) <= OPEN_ROWS // 2:
        yield TableBlock(table=table, row_ids=row_ids)
        return
    yield TableBlock(table=dataclasses.replace(table, rows=first), row_ids=row_ids[:OPEN_ROWS])
    more = dataclasses.replace(table, title=f"{table.title}: {counted(len(rest), 'row')} more", rows=rest, caption="")
    yield Fold(summary=more.title, blocks=(TableBlock(table=more, row_ids=row_ids[OPEN_ROWS:]),))


def _main_cause(step: StepTime) -> str:
    cause = max(step.idle_by_cause_ms, key=lambda name: step.idle_by_cause_ms[name], default=None)
    return NONE if cause is None else CAUSE_LABELS[cause]


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else NONE


def _ms(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _numeric(*headers: str) -> tuple[Column, ...]:
    return tuple(Column(header=header, numeric=True) for header in headers)
