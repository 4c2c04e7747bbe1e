"""Sections of reports of ``syncs`` and of traces, beside a result or where there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from bagel_perf.report.html.bounds import bounded, shortened
from bagel_perf.report.html.content import Block, Bullets, Page, Section, Text
from bagel_perf.report.html.page import json_text
from bagel_perf.report.html.sites import site_block
from bagel_perf.report.html.trace_page import ROWS, trace_sections
from bagel_perf.report.html.trace_sections import answer_section
from bagel_perf.report.table import counted
from bagel_perf.schema import codec
from bagel_perf.schema.syncs import SyncReport
from bagel_perf.schema.traces import TraceReport

ONE_IN_FULL = "Of several traces the first is shown in full; trace FILE --html makes the page of another."


def other_sections(syncs: Sequence[SyncReport], traces: Sequence[TraceReport]) -> tuple[Section, ...]:
    """One of each report of waits; of the first trace all, of others the answer."""
    return (*(_waits(number, report) for number, report in enumerate(syncs)), *_of_traces(traces))


def other_page(syncs: Sequence[SyncReport], traces: Sequence[TraceReport]) -> Page:
    """Of files among which is no result."""
    names = [*(report.subject for report in syncs), *(f"trace {report.source.file}" for report in traces)]
    what = [counted(len(syncs), "report") + " of host syncs"] * bool(syncs)
    what += [counted(len(traces), "trace")] * bool(traces)
    data = {
        "syncs": [{**codec.to_json(report), "profile": None} for report in syncs],
        "traces": [{**codec.to_json(report), "lanes": None} for report in traces],
    }
    return Page(
        title=shortened(", ".join(names)),
        subtitle=f"{' and '.join(what)}; nothing was compared",
        sections=bounded(*other_sections(syncs, traces)),
        data_json=json_text(data),
    )


def _waits(number: int, report: SyncReport) -> Section:
    where = "the simulated device" if report.device == "simulated" else "a GPU"
    lead = f"{report.subject} waits {counted(report.host_syncs, 'time')}, counted on {where}."
    open_points = [f"{report.unexplained} more waits have no place."] * (report.unexplained > 0)
    open_points += [f"Not judged: {', '.join(report.unjudged)}."] * bool(report.unjudged)
    blocks: list[Block] = [Text(text=lead, style="lead")]
    blocks += [Bullets(items=(*open_points, *report.notes))] if open_points or report.notes else []
    blocks += [site_block(report.sites, f"Host syncs of {report.subject}")] if report.sites else []
    return Section(anchor=f"waits{number}", title=shortened(f"Host syncs of {report.subject}"), blocks=tuple(blocks))


def _of_traces(traces: Sequence[TraceReport]) -> Iterator[Section]:
    for number, report in enumerate(traces):
        sections = trace_sections(report, ROWS) if number == 0 else (answer_section(report),)
        for section in sections:
            title = shortened(f"{section.title}: trace {report.source.file}")
            yield dataclasses.replace(section, anchor=f"trace{number}-{section.anchor}", title=title)
    if len(traces) > 1:
        yield Section(anchor="other-traces", title="Other traces", blocks=(Text(text=ONE_IN_FULL),))
