"""The first screen of a trace: how idle the GPU was and why, as a sentence, badges, cards, bars and one culprit."""

from __future__ import annotations

from collections.abc import Iterator

from bagel_perf.records.sites import HINTS
from bagel_perf.records.traces import CAUSES, Cause, TraceReport
from bagel_perf.report.html.colours import cause_name, kind_name
from bagel_perf.report.html.content import (
    Badge,
    Badges,
    Bar,
    Bars,
    Block,
    Bullets,
    Card,
    Cards,
    Culprit,
    Fold,
    Part,
    Section,
    Span,
    Text,
    first_screen,
)
from bagel_perf.report.html.culprit import cost_ms
from bagel_perf.report.html.trace_plots import Row, cause_rows
from bagel_perf.report.html.words import number_text, sentence, times_text
from bagel_perf.report.table import counted
from bagel_perf.report.trace_summary import BUSY_SHARE, SYNC_CAUSES, headline, next_line, warning_lines
from bagel_perf.report.trace_tables import CAUSE_LABELS, CAUSE_MEANINGS, place_of, range_text, short_name

NAME_WIDTH = 160
MAX_LINKED = 40
"""Rows of the table of waits that are there whatever was asked for."""
WHY: dict[Cause, str] = {
    "host_sync": "while the host was held in waits",
    "after_sync": "while the host restarted after a wait",
    "unrecorded_work": "with work that was not recorded",
    "one_time_setup": "for set-up that is paid once",
    "graph_capture": "while graphs were captured",
    "allocator": "while memory was allocated",
    "data_loader": "while data was loaded",
    "cpu_elsewhere": "while the CPU did other things",
    "launch_bound": "because launches came too slowly",
    "launch_overhead": "in the overhead of launches",
    "queued": "while launched work waited on the device",
    "unknown": "for a reason that the trace does not tell",
}
"""How a sentence goes on that says that a GPU was idle."""


def answer_section(report: TraceReport) -> Section:
    """The answer in a sentence, warnings as badges, figures, the window as a bar, one culprit, and what to do next."""
    return first_screen(
        [Span(text=answer(report))],
        Badges(badges=tuple(_badges(report))),
        Cards(cards=tuple(_cards(report))),
        *_bars(report),
        _culprit(report),
        Text(text=f"Next: {sentence(next_line(report).removeprefix('next: '))}"),
        *_figures(report),
    )


def _badges(report: TraceReport) -> Iterator[Badge]:
    """What to distrust first, then what was recorded."""
    yield from (Badge(text=line.removeprefix("WARNING: "), tone="bad") for line in warning_lines(report))
    if report.gpu_busy_ms is None:
        yield Badge(text="no work of a GPU in the trace", tone="doubt")
    elif report.gpu_idle_ms is None:
        yield Badge(text="idle time unknown", tone="doubt")
    if report.host_syncs is None:
        yield Badge(text="host syncs unknown", tone="doubt")
    if report.phases:
        yield Badge(text=counted(sum(phase.steps for phase in report.phases), "step"))
    yield Badge(text="a recorded run, which takes longer than one that nobody records")


def _cards(report: TraceReport) -> Iterator[Card]:
    devices_ms = report.window_ms * max(len(report.devices), 1)
    if report.gpu_idle_ms is not None and devices_ms:
        busy = times_text([report.gpu_busy_ms or 0.0, devices_ms])
        idle = f"{report.gpu_idle_ms / devices_ms:.0%}"
        yield Card(value=idle, label="of the time the GPU was idle", note=f"at work for {busy[0]} of {busy[1]}")
    cause = _chief_cause(report)
    if cause is not None:
        cause_ms = report.idle_by_cause_ms[cause]
        yield Card(value=times_text([cause_ms])[0], label=f"idle: {CAUSE_LABELS[cause]}", note=CAUSE_MEANINGS[cause])
    if report.host_syncs is not None:
        held = "" if report.blocked_ms is None else f"they held the host for {times_text([report.blocked_ms])[0]}"
        saving = report.predicted_saving_ms
        less = "" if saving is None else f"without them it should take {range_text(saving)} ms less"
        note = "; ".join(filter(None, (held, less))) if report.host_syncs else ""
        yield Card(value=number_text(report.host_syncs), label="host syncs in the window", note=note)


def _chief_cause(report: TraceReport) -> Cause | None:
    """What most of the idle time is of."""
    cause = max(CAUSES, key=lambda name: report.idle_by_cause_ms.get(name, 0.0))
    return cause if report.idle_by_cause_ms.get(cause) else None


def _bars(report: TraceReport) -> Iterator[Bars]:
    """The whole window and its phases, each as shares of work and idle time by cause."""
    rows = cause_rows(report)
    if rows:
        found = [cause for cause in CAUSES if any(idle.get(cause) for *_, idle in rows)]
        legend = (
            Span(text="at work", colour="l-gpu"),
            *(Span(text=CAUSE_LABELS[each], colour=cause_name(each)) for each in found),
        )
        yield Bars(title="How the time of the GPU passed", bars=tuple(map(_bar, rows)), legend=legend)


def _bar(row: Row) -> Bar:
    name, busy_ms, idle = row
    all_ms = busy_ms + sum(idle.values())
    parts = [Part(share=busy_ms / all_ms, colour="l-gpu")]
    parts += [Part(share=idle[each] / all_ms, colour=cause_name(each)) for each in CAUSES if idle.get(each)]
    return Bar(name=name, parts=tuple(parts), value=times_text([all_ms])[0], end=f"{1 - busy_ms / all_ms:.0%} idle")


def _culprit(report: TraceReport) -> Culprit | None:
    """What cost most: a place that waits where the idle time is of waits, else what the host was in; or None."""
    cause = _chief_cause(report)
    if cause in SYNC_CAUSES and report.sites:
        number, site = max(enumerate(report.sites), key=lambda each: cost_ms(each[1]))
        cost = (
            f"Taking them out should save {range_text(site.predicted_saving_ms)} ms."
            if site.predicted_saving_ms
            else f"The GPU was idle through them for {site.lost_gpu_ms or 0.0:.2f} ms."
        )
        return Culprit(
            title="The wait that costs most",
            place=short_name(place_of(site), NAME_WIDTH),
            text=f"{counted(site.count, 'wait')}, {HINTS[site.kind].label}. {cost}",
            instead=HINTS[site.kind].advice,
            href=f"wait{number}" if number < MAX_LINKED else "",
            colour=kind_name(site.kind),
        )
    worst = next((each for each in report.culprits if each.cause == cause and each.what), None)
    if worst is None or cause is None:
        return None
    parts = counted(worst.parts, "gap")
    return Culprit(
        title="What left the GPU idle longest",
        place=short_name(worst.what, NAME_WIDTH),
        text=f"The GPU was idle for {worst.idle_ms:.2f} ms in {parts} meanwhile; {CAUSE_MEANINGS[cause]}.",
        colour=cause_name(cause),
    )


def _figures(report: TraceReport) -> Iterator[Block]:
    """What the terminal's headline says beyond the answer, folded; a line that goes on stands with its former one."""
    first, *rest = headline(report)
    items: list[str] = []
    for line in (first.rpartition("; ")[2], *rest):
        if items and line.startswith("held "):
            items[-1] += f"; they {line}"
        else:
            items.append(line)
    yield Fold(summary="All figures in words", blocks=(Bullets(items=tuple(map(sentence, items))),))


def answer(report: TraceReport) -> str:
    """How busy or idle the GPU was, and through what: one sentence."""
    if report.gpu_busy_ms is None:
        return "The trace does not tell what the GPU did."
    number = len(report.devices)
    devices_ms = report.window_ms * max(number, 1)
    window = times_text([devices_ms])[0]
    who = f"The {number} GPUs were" if number > 1 else "The GPU was"
    together = " together" if number > 1 else ""
    if report.gpu_idle_ms is None or not devices_ms:
        busy = times_text([report.gpu_busy_ms, devices_ms])
        return f"{who} at work for {busy[0]} of {busy[1]}{together}; how long idle is unknown."
    share = report.gpu_idle_ms / devices_ms
    cause = _chief_cause(report)
    why = f", most of it {WHY[cause]}" if cause else ""
    if share < 1 - BUSY_SHARE:
        return f"{who} at work for {1 - share:.0%} of {window}{together}, so the host does not hold it up."
    return f"{who} idle for {share:.0%} of {window}{together}{why}."
