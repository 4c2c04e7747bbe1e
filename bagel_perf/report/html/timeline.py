"""What CPU and GPU did side by side in one call of a region, for each variant that was profiled."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from bagel_perf.records.outlines import VariantInfo
from bagel_perf.records.results import Result
from bagel_perf.records.store import slug
from bagel_perf.records.syncs import SyncReport
from bagel_perf.records.traces import CAUSES, PATH_SEPARATOR, Cause, RegionTime
from bagel_perf.report.html.colours import variant_name
from bagel_perf.report.html.content import Block, Bullets, Code, Fold, Heading, Plot, Section, Text, tables
from bagel_perf.report.html.profiles import SIZE_MARK, devices_of, of_result, places_of, size_of, variant_of
from bagel_perf.report.html.sites import place_text, wait_anchor
from bagel_perf.report.html.timeline_data import timeline_data
from bagel_perf.report.html.timeline_plot import DURATION, Strip, is_drawn_whole, timeline_svg
from bagel_perf.report.html.trace_plots import WHOLE, trace_links
from bagel_perf.report.table import NONE, Column, Table, counted, ms_text
from bagel_perf.report.trace_tables import CAUSE_LABELS

REGIONS = {"step": "One denoise step", "denoise_loop": "The denoise loop, all its steps", "ar": "One prefill"}
"""The innermost name of a region's path, and what a call of it is."""
MISSING = (
    "No profile was given: results of compare hold none, as a profiled pass is never a timed one. On a GPU, for each "
    "variant, and then all of them together with the result:"
)
CAPTION = (
    "The call of its region that left the GPU idle most, in a profiled run, which takes longer than a timed one; gaps "
    "between bars are idle. Host waits are coloured by kind and drawn a pixel wide at least, idle time of the GPU by "
    "its cause; their lines stand under Waits by line. Where segments are too many to draw, neighbours "
    "share a bar, as high as the part of it that they fill."
)
POINTED = "The pointer on a wait shows its line, and what all waits of that line took."

NOT_MARKED = "Without a bar of its own here: {names}. A replayed graph has no region inside it: see the loop."
OLD = "Left out, of {names}: lanes of many merged bars whose profile does not say how full they are; record it anew."
OLD_CAUSES = (
    "Of {names}, recorded before idle time was split by cause: all of a gap that opened in a host sync counts as "
    "restart after it, and the ends of the window as unknown."
)
EMPTY = "Given, and without a timeline: {names}; record it anew."
MAX_CAUSES = 5
"""Columns of idle time: with more the table is wider than a sheet."""
TERMS = (
    "wall: between begin and end on the host; blocked: the host inside waits; idle caused: of the GPU; work of the "
    "GPU is that of the region that launched it, and may end after it"
)
SHOWN = "What CPU and GPU did side by side, in profiled runs, which take longer than the timed ones of the tables above"
UNLIKE = ", some of them not of what this result is of"
ABOUT = "About these profiled runs"
COSTS = (
    "Profiling lengthens each launch, so launches that are slow here may be fast enough by themselves. These are runs "
    "of their own, not those of the tables above; as a whole they took:"
)


def timeline_section(result: Result, reports: Sequence[SyncReport]) -> Section:
    """A drawing and a table for each of ``REGIONS``, then all that is drawn as a file."""
    profiled = [report for report in reports if report.profile and report.profile.lanes]
    empty = [report.subject for report in reports if report not in profiled]
    lacking = [Text(text=EMPTY.format(names=", ".join(empty)))] if empty else []
    if not profiled:
        return Section(anchor="timeline", title="Timeline", blocks=(*lacking, *_missing(result)))
    about = (*lacking, *_apart(profiled, result), *_costs(profiled), *_old_causes(profiled))
    is_unlike = len(of_result(profiled, result)) < len(profiled)
    blocks = (Text(text=f"{SHOWN}{UNLIKE * is_unlike}."), *((Fold(summary=ABOUT, blocks=about),) if about else ()))
    return Section(anchor="timeline", title="Timeline", blocks=(*blocks, *_drawings(profiled, result)))


def _old_causes(reports: Sequence[SyncReport]) -> Iterator[Block]:
    """Which profiles give a gap one cause; those that split it say what their devices computed as well."""
    old = [
        report.subject
        for report in reports
        if report.profile and report.profile.gaps and all(each.compute_ms is None for each in report.profile.devices)
    ]
    if old:
        yield Text(text=OLD_CAUSES.format(names=", ".join(old)))


def _missing(result: Result) -> Iterator[Block]:
    first, last = result.named[0], result.named[-1]
    commands = [syncs_command(result, each) for each in (result.variants[0], result.variants[result.num_named - 1])]
    yield Text(text=MISSING)
    yield Code(text="\n".join([*commands, f"bagel-perf report RESULT {slug(first)}.json {slug(last)}.json --out DIR"]))


def syncs_command(result: Result, variant: VariantInfo) -> str:
    """The command that profiles a variant of a result in its last case."""
    named = f"--variant {variant.name} --res" if result.outline.is_bagel else f"{shlex.quote(variant.target)} --case"
    return f"bagel-perf syncs {named} {shlex.quote(result.cases[-1])} --json {shlex.quote(slug(variant.name))}.json"


def _apart(reports: Sequence[SyncReport], result: Result) -> Iterator[Block]:
    """What is not of this result, or not here; and that a profiled run was another one."""
    known = places_of(result)
    foreign = [report.subject for report in reports if (variant_of(report), size_of(report)) not in known]
    if foreign:
        yield Text(text=f"Not of this result: {', '.join(foreign)}.")
    device = result.environment.device_name
    others = {name for report in reports for name in devices_of(report)} - {device}
    if others:
        yield Text(text=f"Profiled on another device than {device}: {', '.join(sorted(others))}.")
    here = {(variant_of(report), size_of(report)) for report in reports}
    missing = [f"{name} at {size}" for name, size in sorted(known - here) if size in {each for _, each in here}]
    if missing:
        yield Text(text=f"Not profiled: {', '.join(missing)}.")


def _costs(reports: Sequence[SyncReport]) -> Iterator[Block]:
    """How much longer each run took under the profiler, most of it in launches."""
    runs = [(report.subject, report.instrument) for report in reports if report.instrument is not None]
    items = [
        f"{subject}: {instrument.watched_wall_ms:.0f} ms profiled, {instrument.plain_wall_ms:.0f} ms without"
        for subject, instrument in runs
        if instrument.watched_wall_ms is not None and instrument.plain_wall_ms is not None
    ]
    if items:
        yield Text(text=COSTS)
        yield Bullets(items=tuple(items))


def _drawings(reports: Sequence[SyncReport], result: Result) -> Iterator[Block]:
    """Those of each resolution on one time axis, then all of them as a file."""
    colours = {name: variant_name(index) for index, name in enumerate(result.named)}
    drawn: dict[str, list[Strip]] = {}
    for index, size in enumerate(dict.fromkeys(map(size_of, reports))):
        group = [report for report in reports if size_of(report) == size]
        for name, region in REGIONS.items():
            title = f"{region}{SIZE_MARK * bool(size)}{size}"
            strips = [strip for report in group for strip in _strips(report, name, colours)]
            if strips:
                drawn[title] = strips
                yield from _drawing(f"timeline{index}-{name}", title, strips, group)
                yield from tables(_table(group, name, title))
    if drawn:
        yield Heading(text="The same in a trace viewer")
        yield trace_links(drawn)
        yield Text(text=WHOLE)


def _drawing(key: str, title: str, strips: Sequence[Strip], group: Sequence[SyncReport]) -> Iterator[Block]:
    names = [strip.variant for strip in strips]
    yield Heading(text=title)
    if left_out := [name for name in map(variant_of, group) if name not in names]:
        yield Text(text=NOT_MARKED.format(names=", ".join(left_out)))
    if old := [strip.variant for strip in strips if not is_drawn_whole(strip.lanes)]:
        yield Text(text=OLD.format(names=", ".join(old)))
    caption = f"{CAPTION} {POINTED}" if any(strip.places for strip in strips) else CAPTION
    label = f"{title}: {', '.join(names)}"
    yield Plot(svg=timeline_svg(key, strips), label=label, caption=caption, lanes=timeline_data(strips, DURATION))


def _strips(report: SyncReport, name: str, colours: Mapping[str, str]) -> Iterator[Strip]:
    """The lanes of the outermost region with this name; ``colours`` are by variant."""
    assert report.profile is not None
    found = [lanes for lanes in report.profile.lanes if lanes.region.split(PATH_SEPARATOR)[-1] == name]
    if found:
        lanes = min(found, key=lambda lanes: len(lanes.region))
        yield Strip(
            variant=variant_of(report),
            lanes=lanes,
            places=tuple(_place(report, place) for place in lanes.places),
            rows=tuple(_row(report, place) for place in lanes.places),
            colour=colours.get(variant_of(report), ""),
        )


def _row(report: SyncReport, number: int) -> str:
    """The anchor of the row of a site; "" where it is not known."""
    if not 0 <= number < len(report.sites):
        return ""
    return wait_anchor(variant_of(report), size_of(report), report.sites[number])


def _place(report: SyncReport, number: int) -> str:
    """The line of a site with what all of its waits took; "" where it is not known."""
    if not 0 <= number < len(report.sites):
        return ""
    site = report.sites[number]
    code = f" {site.expressions[0]}" if site.expressions else ""
    times = f"host blocked {ms_text(site.blocked_ms)} ms, GPU idle through it {ms_text(site.lost_gpu_ms)} ms"
    return f"{place_text(site)}{code}; {counted(site.count, 'time')} in the whole run, {times}"


def _table(reports: Sequence[SyncReport], name: str, title: str) -> Table:
    """A row a variant, and a column for each cause that takes much of the idle time, the others in one."""
    found = [(variant_of(report), region) for report in reports for region in _regions(report, name)]
    sums = {cause: sum(region.idle_by_cause_ms.get(cause, 0.0) for _, region in found) for cause in CAUSES}
    most = sorted(CAUSES, key=lambda cause: -sums[cause])[:MAX_CAUSES]
    causes = [cause for cause in CAUSES if cause in most and sums[cause]]
    others = [cause for cause in CAUSES if cause not in most and sums[cause]]
    idle = [f"idle: {CAUSE_LABELS[cause]} (ms)" for cause in causes] + ["idle: other (ms)"] * bool(others)
    headers = ("calls", "wall (ms)", "host syncs", "blocked (ms)", "idle caused (ms)", "GPU busy (ms)", *idle)
    return Table(
        title=f"{title}: all calls of the profiled run",
        columns=(Column(header="variant"), *(Column(header=header, numeric=True) for header in headers)),
        rows=tuple((variant, *_texts(region, causes, others)) for variant, region in found),
        caption=TERMS,
    )


def _regions(report: SyncReport, name: str) -> Iterator[RegionTime]:
    assert report.profile is not None
    found = [region for region in report.profile.regions if region.path and region.path[-1] == name]
    if found:
        yield min(found, key=lambda region: len(region.path))


def _texts(region: RegionTime, causes: Sequence[Cause], others: Sequence[Cause]) -> tuple[str, ...]:
    known = region.idle_by_cause_ms
    rest = [sum(known.get(cause, 0.0) for cause in others) if known else None] if others else []
    times = (region.blocked_ms, region.lost_gpu_ms, region.gpu_busy_ms, *map(known.get, causes), *rest)
    syncs = NONE if region.host_syncs is None else str(region.host_syncs)
    return str(region.calls), f"{region.wall_ms:.1f}", syncs, *map(ms_text, times)
