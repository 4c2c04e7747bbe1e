"""The page of a trace, or of several ranks: the answer first, then why, when, where; beside a result, its sections."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from bagel_perf.records import codec
from bagel_perf.records.errors import UsageError
from bagel_perf.records.syncs import SyncReport
from bagel_perf.records.trace_ranks import RanksReport
from bagel_perf.records.traces import TraceReport
from bagel_perf.report.html.content import (
    MAX_ROWS,
    Block,
    Culprit,
    Heading,
    Page,
    Section,
    Text,
    bounded,
    shortened,
    tables,
)
from bagel_perf.report.html.inputs import Inputs
from bagel_perf.report.html.page import gate_page, json_text
from bagel_perf.report.html.ranks_answer import ranks_answer
from bagel_perf.report.html.trace_answer import answer_section
from bagel_perf.report.html.trace_plots import rank_plot
from bagel_perf.report.html.trace_sections import (
    WINDOW_AXIS,
    changes_section,
    gaps_section,
    idle_section,
    kernels_section,
    lanes_section,
    notes_section,
    phases_section,
    regions_section,
    streams_section,
    strip_of,
    svg_can_hold,
    syncs_section,
    timeline_plot,
)
from bagel_perf.report.html.waits import programs_answer, waits_answer, waits_section
from bagel_perf.report.ranks import rank_tables, shown_rank, title
from bagel_perf.report.table import counted
from bagel_perf.report.trace_changes import totals_table
from bagel_perf.report.trace_summary import source_line

ROWS = 40
"""Of each table at least."""
MAX_RANKS = 8
"""On one axis."""
RANK_LANES = (
    "The whole window of each rank, from its own begin on: clocks of ranks are not held against each other. Host syncs "
    "are coloured by kind, idle time by cause."
)
REST = "the rest is in the JSON of trace --json"


def trace_page(report: TraceReport, top: int = ROWS) -> Page:
    """Of one trace; tables have ``top`` rows, or ``ROWS`` if that is more."""
    return Page(
        title=shortened(f"Trace {report.source.file}"),
        subtitle=source_line(report),
        sections=bounded(*trace_sections(report, max(top, ROWS)), rest=REST),
        data_json=json_text({"schema": "bagel-perf.trace", "version": 1, **_figures(report)}),
    )


def trace_sections(report: TraceReport, top: int) -> tuple[Section, ...]:
    """All sections of one trace, the answer first."""
    return (answer_section(report), *_sections(report, top), notes_section(report))


def ranks_page(report: RanksReport, top: int = ROWS) -> Page:
    """Of several ranks side by side, and in full of the one that the others waited for, or that was idle most."""
    top, shown = max(top, ROWS), shown_rank(report)
    return Page(
        title=shortened(f"Traces of {counted(len(report.ranks), 'rank')}"),
        subtitle=title(report),
        sections=bounded(
            ranks_answer(report),
            _ranks_section(report, top),
            *_ranks_changes(report),
            *(_of_rank(section, shown.rank) for section in _sections(shown.report, top)),
            notes_section(shown.report, report.notes),
            rest=REST,
        ),
        data_json=json_text(_ranks_data(report)),
    )


def _sections(report: TraceReport, top: int) -> tuple[Section, ...]:
    """Everything between the answer and the notes."""
    return (
        *changes_section(report, top),
        syncs_section(report, top),
        idle_section(report, top),
        lanes_section(report),
        regions_section(report, top),
        gaps_section(report, top),
        *(dataclasses.replace(make(report), folded=inside) for make, inside in _rarely_read(top)),
    )


def _rarely_read(top: int) -> Iterator[tuple[Callable[[TraceReport], Section], str]]:
    yield phases_section, "steps one by one, and what a warm-up took"
    yield lambda report: streams_section(report, top), "how far ahead the host was"
    yield lambda report: kernels_section(report, top), "which kernels took the time of the GPU"


def _ranks_section(report: RanksReport, top: int) -> Section:
    plot = rank_plot(report.ranks)
    drawn: tuple[Block, ...] = (plot,) if plot else ()
    shown = shown_rank(report)
    return Section(
        anchor="ranks",
        title="Ranks side by side",
        blocks=(
            *drawn,
            *_rank_lanes(report),
            *tables(*rank_tables(report, top)),
            Text(text=f"The sections below are of rank {shown.rank}; trace FILE --html makes the page of another."),
        ),
    )


def _rank_lanes(report: RanksReport) -> Iterator[Block]:
    """The whole window of every rank, all on one axis; of many ranks the first, and the one that is shown in full."""
    shown = shown_rank(report)
    known = [each for each in report.ranks if each.report.lanes and svg_can_hold(each.report.lanes[0])]
    drawn = [each for number, each in enumerate(known) if number < MAX_RANKS or each is shown]
    if drawn:
        cut = f" {len(drawn)} of {len(report.ranks)} ranks." if len(drawn) < len(report.ranks) else ""
        strips = [strip_of(each.report, each.report.lanes[0], f"rank {each.rank}") for each in drawn]
        rows = [strip if each is shown else replace(strip, rows=()) for strip, each in zip(strips, drawn, strict=True)]
        yield Heading(text="All ranks on one axis")
        yield timeline_plot("lanes-of-ranks", rows, WINDOW_AXIS, "All ranks on one axis", RANK_LANES + cut)


def _ranks_changes(report: RanksReport) -> tuple[Section, ...]:
    """The totals of every rank before and after; the shown one has a section of its own."""
    found = [(each.rank, each.report.difference) for each in report.ranks if each.report.difference is not None]
    if not found:
        return ()
    changed = [
        dataclasses.replace(table, title=f"Rank {rank}: {table.title[:1].lower()}{table.title[1:]}")
        for rank, difference in found[:MAX_ROWS]
        for table in (totals_table(difference),)
    ]
    return (Section(anchor="changes-of-ranks", title="What changed, rank by rank", blocks=tables(*changed)),)


def _of_rank(section: Section, rank: int) -> Section:
    return dataclasses.replace(section, title=f"{section.title} (rank {rank})")


def _figures(report: TraceReport) -> dict[str, Any]:
    """A report as JSON without its drawings."""
    return {name: value for name, value in codec.to_json(report).items() if name != "lanes"}


def _ranks_data(report: RanksReport) -> dict[str, Any]:
    """The figures of all ranks; the lists of their reports are those of the one that is shown."""
    shown = shown_rank(report)
    data = {**report.to_json(), "steps": codec.to_json(report.steps[:MAX_ROWS])}
    for each, rank in zip(data["ranks"], report.ranks, strict=True):
        each["report"] = _figures(rank.report) if rank is shown else None
    return data


ONE_IN_FULL = "Of several traces the first is shown in full; trace FILE --html makes the page of another."


def other_sections(syncs: Sequence[SyncReport], traces: Sequence[TraceReport]) -> tuple[Section, ...]:
    """One of each report of waits; of the first trace all, of others the answer."""
    return (*(waits_section(number, report) for number, report in enumerate(syncs)), *_of_traces(traces))


def other_page(syncs: Sequence[SyncReport], traces: Sequence[TraceReport]) -> Page:
    """Of files among which is no result."""
    names = [*(report.subject for report in syncs), *(f"trace {report.source.file}" for report in traces)]
    data = {
        "syncs": [{**codec.to_json(report), "profile": None} for report in syncs],
        "traces": [{**codec.to_json(report), "lanes": None} for report in traces],
    }
    return Page(
        title=shortened(", ".join(names)),
        subtitle=_subtitle(syncs, traces),
        sections=bounded(*_answered(syncs, traces)),
        data_json=json_text(data),
    )


def page_of_inputs(inputs: Inputs) -> Page:
    """Of files among which is no result: of ranks, of a gate, or of waits and traces.

    Raises ``UsageError`` where reports of ranks or gates do not stand alone.
    """
    apart = [*inputs.ranks, *inputs.gates]
    if not apart:
        return other_page(inputs.syncs, inputs.traces)
    if len(apart) > 1 or inputs.syncs or inputs.traces:
        raise UsageError("report of ranks or of a gate among other reports", remedy="make a page of each by itself")
    return ranks_page(inputs.ranks[0]) if inputs.ranks else gate_page(inputs.gates[0])


def _subtitle(syncs: Sequence[SyncReport], traces: Sequence[TraceReport]) -> str:
    """What was given; of a single trace what it is."""
    if len(traces) == 1 and not syncs:
        return source_line(traces[0])
    what = [counted(len(syncs), "report") + " of host syncs"] * bool(syncs)
    what += [counted(len(traces), "trace")] * bool(traces)
    return f"{' and '.join(what)}; nothing was compared"


def _answered(syncs: Sequence[SyncReport], traces: Sequence[TraceReport]) -> tuple[Section, ...]:
    """The answer of what is there first: of the one program, of several, or of the trace, whose sections follow."""
    if len(syncs) == 1:
        return waits_answer(syncs[0]), waits_section(0, syncs[0], is_answered=True), *_of_traces(traces)
    if syncs:
        return programs_answer(syncs), *other_sections(syncs, traces)
    return other_sections(syncs, traces)


def _of_traces(traces: Sequence[TraceReport]) -> Iterator[Section]:
    for number, report in enumerate(traces):
        sections = trace_sections(report, ROWS) if number == 0 else (_unlinked(answer_section(report)),)
        for section in sections:
            title = section.title if len(traces) == 1 else shortened(f"{section.title}: trace {report.source.file}")
            yield dataclasses.replace(section, anchor=f"trace{number}-{section.anchor}", title=title)
    if len(traces) > 1:
        yield Section(anchor="other-traces", title="Other traces", blocks=(Text(text=ONE_IN_FULL),))


def _unlinked(section: Section) -> Section:
    """The answer of a trace whose table of waits is not on the page."""
    blocks = (dataclasses.replace(each, href="") if isinstance(each, Culprit) else each for each in section.blocks)
    return dataclasses.replace(section, blocks=tuple(blocks))
