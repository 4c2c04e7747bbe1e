"""Host syncs for people: the sites, where the GPU's time went, what saw it, what to write instead, and what changed.

The waits of a model's set-up would drown all others, so they are told apart and folded into one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import PurePath
from typing import TextIO

from msgspec.structs import replace

from bagel_perf.records.errors import INTERRUPTED
from bagel_perf.records.sites import HINTS, SyncSite
from bagel_perf.records.syncs import UNUSED_REMEDY, BudgetCheck, SyncChange, SyncDifference, SyncReport, doubts
from bagel_perf.report.copy_tables import copy_note, copy_table, device_lines, has_several_devices
from bagel_perf.report.process_tables import process_table
from bagel_perf.report.table import Column, Table, counted, ms_text, sentences
from bagel_perf.report.text import print_document
from bagel_perf.report.trace_tables import idle_table, range_text, region_table
from bagel_perf.verdicts.hints import hint_of
from bagel_perf.verdicts.merging import by_role


def split_setup(sites: Iterable[SyncSite]) -> tuple[tuple[SyncSite, ...], tuple[SyncSite, ...]]:
    """(all other sites, those of the set-up), each in their order."""
    found = tuple(sites)
    return tuple(site for site in found if not site.is_setup), tuple(site for site in found if site.is_setup)


def setup_text(sites: Sequence[SyncSite]) -> str:
    """How much waits in the set-up."""
    num_waits = sum(site.count for site in sites)
    num_lines = len(set(map(_line, sites)))
    return f"set-up: uploads of module parameters, {counted(num_waits, 'wait')}, {counted(num_lines, 'line')}"


def setup_details(sites: Sequence[SyncSite]) -> Iterator[str]:
    """The first lines of the set-up, and how many of its waits are allowed."""
    places = list(dict.fromkeys(line for line in map(_line, sites) if line))
    if places:
        more = f" and {len(places) - MAX_PLACES} more" if len(places) > MAX_PLACES else ""
        yield ", ".join(places[:MAX_PLACES]) + more
    num_allowed = sum(site.count for site in sites if site.allowed is not None)
    if num_allowed:
        yield f"{num_allowed} of them allowed"


def _line(site: SyncSite) -> str:
    """The program's own line where a library uploads; "" where there is none."""
    return site.caller or (f"{site.file}:{site.line}" if site.file else "")


MAX_HINTS = 4
MAX_PLACES = 3


def print_syncs(report: SyncReport, stream: TextIO, *, top: int, apart: bool = False) -> None:
    """Prints the tables of a report with at most ``top`` sites, and what to do next.

    Sites of alike processes are summed, unless they are to be shown ``apart``.
    """
    report = report if apart else replace(report, sites=by_role(report.sites))
    tables = [site_table(report, top)] if report.sites else []
    tables += [table for table in (process_table(report), copy_table(report, top)) if table is not None]
    head = () if report.sites else (_title(report),)
    if report.profile is not None and report.profile.gpu_idle_ms is not None:
        tables += [idle_table(report.profile), region_table(report.profile, top)]
    print_document(stream, tables, (*head, *finding_lines(report), *hint_lines(report, top), last_line(report)))


def site_table(report: SyncReport, top: int) -> Table:
    """The sites in the report's order, each with the source text that waits; the rest and the set-up in a row each."""
    timed = any(site.blocked_ms is not None for site in report.sites)
    work, setup = split_setup(report.sites)
    shown, rest = work[:top], work[top:]
    several = has_several_devices(report)
    rows = [_site_row(site, timed=timed, several=several) for site in shown]
    if rest:
        rows.append(_sum_row(rest, f"{counted(len(rest), 'more site')} (--top)", timed=timed))
    if setup:
        rows.append(_sum_row(setup, _setup_cell(setup), timed=timed))
    times = [Column(header=name, numeric=True) for name in ("idle caused", "blocked", "saving")] if timed else []
    return Table(
        title=_title(report),
        columns=(*times, Column(header="count", numeric=True), Column(header="where")),
        rows=tuple(rows),
        caption=_caption(timed=timed),
    )


def _title(report: SyncReport) -> str:
    device = "the simulated device" if report.device == "simulated" else "CUDA"
    return f"Host syncs of {report.subject or 'the program'} on {device}: {report.host_syncs}"


def _caption(*, timed: bool) -> str:
    if not timed:
        return "Sites are ordered by count. What they cost needs a GPU."
    return sentences(
        "times are in ms",
        "idle caused is how long the GPU was idle because of the waits, and blocked how long the host stood in them",
        "saving is what a run without them is predicted to save",
    )


def _site_row(site: SyncSite, *, timed: bool, several: bool) -> tuple[str, ...]:
    times = [ms_text(site.lost_gpu_ms), ms_text(site.blocked_ms), range_text(site.predicted_saving_ms)] if timed else []
    return (*times, str(site.count), _where(site, several=several))


def _where(site: SyncSite, *, several: bool) -> str:
    """The line; below it the source that waits, the region, and the user's own line where the first is a library's."""
    lines = [f"{_place(site)}  {HINTS[site.kind].label}"]
    lines += [f"  {expression}" for expression in site.expressions]
    if site.process:
        lines.append(f"of {site.process}")
    if site.region:
        lines.append(f"in {site.region}")
    lines += device_lines(site, several=several)
    if site.phase:
        lines.append(f"{site.phase}: held to no budget")
    if site.allowed:
        lines.append(f"allowed: {site.allowed}")
    if site.op:
        lines.append(f"inside {site.op}")
    if site.caller:
        lines.append(f"called from {site.caller}")
    return "\n".join(lines)


def _sum_row(sites: Sequence[SyncSite], text: str, *, timed: bool) -> tuple[str, ...]:
    """Several sites in one row."""
    sums = []
    if timed:
        for name in ("lost_gpu_ms", "blocked_ms"):
            values = [getattr(site, name) for site in sites]
            sums.append(ms_text(sum(value for value in values if value is not None)))
        sums.append("")
    return (*sums, str(sum(site.count for site in sites)), text)


def _setup_cell(sites: Sequence[SyncSite]) -> str:
    return "\n".join([setup_text(sites), *(f"  {line}" for line in setup_details(sites))])


def finding_lines(report: SyncReport) -> Iterator[str]:
    """What was seen by which instrument, what nobody can judge, and whether budgets and predictions held."""
    yield _witness_line(report)
    for name, calls in report.unjudged.items():
        places = _places_of(name, report)
        called = counted(calls, "call")
        yield f"- cannot be judged without a GPU: {name}, {called}{places}; its waits are not in the counts"
    for each in report.quiet_operators:
        yield f"- does not wait, as you say: {each.name}, {counted(each.calls, 'call')}: {each.reason}"
    for name, calls in report.hazards.items():
        yield f"- may stall without waiting: {name}, {counted(calls, 'call')}{_places_of(name, report)}"
    yield from (f"- {doubt.text}" for doubt in doubts(report) if doubt.kind == "window")
    if report.unused():
        yield "- nothing ran on the device: that nothing waits for it says nothing about a GPU"
    for process in report.unwatched:
        yield f"- not watched, and its waits not in the counts: {process.name}"
    for name in report.untested:
        yield f"- not tested with {name}: counts may be wrong"
    for check in report.budgets:
        yield _budget_line(report, check)
    yield from (f"- {note}" for note in report.notes)
    if (note := copy_note(report)) is not None:
        yield note
    if report.instrument is not None:
        yield _instrument_line(report)
    if report.saving_check is not None:
        yield _saving_line(report)


def _places_of(operator: str, report: SyncReport) -> str:
    """Where an operator ran that cannot be judged, or a copy that may stall, most frequent first."""
    sites = [site for site in (*report.unjudged_sites, *report.hazard_sites) if site.operator == operator and site.file]
    shown = [
        f"{PurePath(site.file)}:{site.line}{f' in {site.region}' * bool(site.region)}" for site in sites[:MAX_PLACES]
    ]
    more = f" and {len(sites) - MAX_PLACES} places more" * (len(sites) > MAX_PLACES)
    return f" at {', '.join(shown)}{more}" if shown else ""


def _budget_line(report: SyncReport, check: BudgetCheck) -> str:
    if not check.num_entries:
        return f"- budget of {check.region}: {check.limit} an entry: NEVER ENTERED"
    reasons = " and ".join(doubt.text for doubt in doubts(report, check.region))
    state = "EXCEEDED" if not check.ok else f"kept as far as was counted, but OPEN: {reasons}" if reasons else "kept"
    if not check.region:
        return f"- budget of the whole: {check.limit}, spent {check.worst}: {state}"
    spent = f"the worst of {check.num_entries} spent {check.worst}" if check.num_entries > 1 else f"spent {check.worst}"
    return f"- budget of {check.region}: {check.limit} an entry, {spent}: {state}"


def _witness_line(report: SyncReport) -> str:
    seen = report.witnesses
    if seen.simulated is not None:
        return f"witnesses: simulated device {seen.simulated}; {report.unexplained} unexplained"
    parts = [f"callbacks {seen.callbacks}"]
    if seen.debug_mode is not None:
        blind = f" (blind to {seen.blind} device and event waits)" if seen.blind else ""
        parts.append(f"debug mode {seen.debug_mode}{blind}")
    if seen.cupti is not None:
        parts.append(f"CUPTI {seen.cupti}")
    return f"witnesses: {', '.join(parts)}; {report.unexplained} unexplained"


def _instrument_line(report: SyncReport) -> str:
    cost = report.instrument
    assert cost is not None
    line = f"- the instruments add {cost.wait_us:.1f} us to a wait and {cost.call_us:.1f} us to another torch call"
    if cost.plain_wall_ms is not None and cost.watched_wall_ms is not None:
        line += f"; the run took {cost.watched_wall_ms:.0f} ms watched, {cost.plain_wall_ms:.0f} ms plain"
    return line


def _saving_line(report: SyncReport) -> str:
    check = report.saving_check
    assert check is not None
    measured = f"{check.measured_ms:.1f} ms"
    if check.measured_ci_ms is not None:
        measured += f" ({range_text(check.measured_ci_ms)})"
    verdict = {True: "they agree", False: "they DISAGREE", None: "too few pairs to judge"}[check.agrees]
    saved = f"predicted {range_text(check.predicted_ms)} ms, measured {measured} in {check.num_pairs} pairs"
    return f"- saving of {check.component} put to the test ({check.mixture}, stage {check.stage}): {saved}: {verdict}"


def hint_lines(report: SyncReport, top: int) -> Iterator[str]:
    """For the first patterns among the shown sites that are not allowed: what waits, and what does not."""
    work, _ = split_setup(report.sites)
    hints = {hint.label: hint for hint in (hint_of(site) for site in work[:top] if not site.is_excused)}
    for hint in islice(hints.values(), MAX_HINTS):
        yield ""
        yield f"{hint.label}: {hint.waits}"
        yield f"  instead: {hint.instead}"
        yield f"  equal:   {hint.why_equal}"
        if hint.must_hold:
            yield f"  if:      {hint.must_hold}"
    if len(hints) > MAX_HINTS:
        yield ""
        yield f"and for {', '.join(list(hints)[MAX_HINTS:])}: docs/what-waits.md has what waits and what does not"
    if hints:
        yield ""


def last_line(report: SyncReport) -> str:
    """What to do next."""
    if report.signal:
        return f"next: {report.signal} ended the program; what would have come later is not counted"
    if report.exit_code == INTERRUPTED:
        return "next: run it to its end, it was interrupted; what comes later is not counted"
    if report.exit_code:
        return f"next: the program ended with exit code {report.exit_code}; if it should go on, mend that first"
    if window := next((doubt for doubt in doubts(report) if doubt.kind == "window"), None):
        return f"next: {window.remedy}"
    if report.unjudged:
        return "next: run it on a GPU, which counts what could not be judged here"
    if report.unused():
        return f"next: {UNUSED_REMEDY}"
    open_sites = [site for site in report.sites if not site.is_excused]
    if not open_sites and report.unwatched:
        return "next: look at the processes that were not watched; in this one nothing waits that is not allowed"
    if not open_sites:
        hold = "" if report.budgets else "; hold it with a budget: --budget 0"
        return f"next: nothing waits that is not allowed{hold}"
    work, _ = split_setup(open_sites)
    if not work:
        hold = "" if report.budgets else '; to hold that, put it under allow_sync("set-up") and give --budget 0'
        return f"next: nothing waits but the set-up{hold}"
    site = work[0]
    place = f"operator {site.op}" if site.op and not site.file else _place(site)
    return f"next: {place}, {site.count} x {HINTS[site.kind].label}"


def _place(site: SyncSite) -> str:
    return f"{PurePath(site.file)}:{site.line}" if site.file else "no line of Python"


def print_changes(difference: SyncDifference, stream: TextIO, *, top: int) -> None:
    """Prints at most ``top`` places whose number changed, and both totals."""
    tables = [change_table(difference, top)] if difference.changes else []
    print_document(stream, tables, change_lines(difference))


def change_table(difference: SyncDifference, top: int) -> Table:
    """The places that changed, what is new first."""
    more = len(difference.changes) - top
    return Table(
        title=f"Host syncs of {difference.after} against {difference.before}",
        columns=(Column(header="change"), Column(header="count", numeric=True), Column(header="where")),
        rows=tuple(map(_row, difference.changes[:top])),
        caption=f"{counted(more, 'place')} more (--top)" if more > 0 else "",
    )


def _row(change: SyncChange) -> tuple[str, ...]:
    place = f"{PurePath(change.file)}:{change.line} {change.function}" if change.file else "no line of Python"
    lines = [f"{place}  {HINTS[change.kind].label}", *(f"  {text}" for text in change.expressions)]
    lines += [f"unknown: {change.why_unknown}"] if change.why_unknown else []
    return change.change, f"{_text(change.count_before)} -> {_text(change.count_after)}", "\n".join(lines)


def change_lines(difference: SyncDifference) -> Iterator[str]:
    """What limits the comparison, what is the same, and the totals."""
    yield from (f"- {note}" for note in difference.notes)
    if difference.num_same:
        yield f"- the same: {counted(difference.host_syncs_same, 'wait')} at {counted(difference.num_same, 'place')}"
    if not difference.changes:
        yield "- the same waits at the same places"
    yield f"host syncs: {_text(difference.host_syncs_before)} -> {_text(difference.host_syncs_after)}"


def _text(count: int | None) -> str:
    return "unknown" if count is None else str(count)
