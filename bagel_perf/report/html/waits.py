"""The answer of a report of ``syncs``: how often a program waits, where most, which budgets held, what is open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bagel_perf.records.sites import HINTS, SyncSite
from bagel_perf.records.syncs import BudgetCheck, SyncReport, doubts
from bagel_perf.report.copy_tables import copy_table
from bagel_perf.report.html import svg
from bagel_perf.report.html.colours import kind_name, variant_name
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
    Part,
    Section,
    Span,
    Text,
    first_screen,
    shortened,
    tables,
)
from bagel_perf.report.html.culprit import costliest, culprit_card
from bagel_perf.report.html.sites import place_text, site_block
from bagel_perf.report.html.words import many, number_text, sentence, stopped
from bagel_perf.report.process_tables import process_table
from bagel_perf.report.sync_tables import finding_lines, last_line, split_setup
from bagel_perf.report.table import counted, listed
from bagel_perf.report.trace_tables import range_text
from bagel_perf.verdicts.merging import by_role

MAX_LINES = 8
MAX_PROGRAMS = 3
ROWS = 40
PROGRAM = "the program"


def waits_answer(report: SyncReport) -> Section:
    """Of one program."""
    culprit = _culprit(report)
    return first_screen(
        [Span(text=waits_sentence(report))],
        Badges(badges=tuple(_badges(report))),
        Cards(cards=tuple(_cards(report))),
        *_bars(report),
        culprit,
        *_next(report, culprit),
    )


def _next(report: SyncReport, culprit: Culprit | None) -> Iterator[Text]:
    """What the terminal would say last, unless that is the culprit."""
    line = last_line(report).removeprefix("next: ")
    is_place = any(line.startswith(f"{site.file}:{site.line}, ") for site in report.sites)
    if culprit is None or not (is_place or line.startswith("operator ")):
        yield Text(text=f"Next: {sentence(line)}")


def programs_answer(reports: Sequence[SyncReport]) -> Section:
    """Of several programs: the bar of each, and the culprit of the one that waits most."""
    told = [f"{_name(each)} waits {many(each.host_syncs, 'time')}" for each in reports[:MAX_PROGRAMS]]
    more = [f"{counted(len(reports) - MAX_PROGRAMS, 'program')} more"] if len(reports) > MAX_PROGRAMS else []
    most = max((each.host_syncs for each in reports), default=0)
    bars = tuple(
        Bar(
            name=svg.short(_name(each)),
            parts=(Part(share=each.host_syncs / most if most else 0.0, colour=variant_name(number)),),
            value=many(each.host_syncs, "wait"),
        )
        for number, each in enumerate(reports[:MAX_LINES])
    )
    return first_screen(
        [Span(text=f"{listed([*told, *more])}.")],
        Badges(badges=tuple(dict.fromkeys(_device_badge(each) for each in reports))),
        Bars(title="Host syncs by program", bars=bars),
        _culprit(max(reports, key=lambda each: each.host_syncs)),
    )


def waits_section(number: int, report: SyncReport, *, is_answered: bool = False) -> Section:
    """The table of lines, and what limits it; the sentence as well where no answer above has said it."""
    lead: list[Block] = [] if is_answered else [Text(text=waits_sentence(report), style="lead")]
    sites = by_role(report.sites)
    title = f"Host syncs of {_name(report)}"
    found: list[Block] = [site_block(sites, title, report.subject)] if sites else [Text(text="No line waits.")]
    notes = tuple(stopped(line.removeprefix("- ")) for line in finding_lines(report))
    return Section(
        anchor=f"waits{number}",
        title="Waits by line" if is_answered else shortened(title),
        blocks=(
            *lead,
            *found,
            *tables(*filter(None, (process_table(report), copy_table(report, ROWS)))),
            Bullets(items=notes),
        ),
    )


def waits_sentence(report: SyncReport) -> str:
    """How often, and where most."""
    name = _name(report)
    name = f"{name[:1].upper()}{name[1:]}" if name == PROGRAM else name
    if report.unused():
        return f"Nothing of {_name(report)} ran on the device, so nothing is known of its waits."
    if not report.host_syncs:
        return f"{name} never waits for the GPU."
    work, _ = split_setup(report.sites)
    head = f"{name} waits {many(report.host_syncs, 'time')} for the GPU"
    if not work:
        return f"{head}, always while it sets up."
    top = max(work, key=lambda site: site.count)
    if top.count == report.host_syncs:
        return f"{head}, {'always ' if top.count > 1 else ''}at {place_text(top)}."
    return f"{head}; the most at {place_text(top)}."


def _name(report: SyncReport) -> str:
    return report.subject or PROGRAM


def _badges(report: SyncReport) -> Iterator[Badge]:
    if report.exit_code:
        yield Badge(text=f"the program ended with exit code {report.exit_code}", tone="bad")
    if report.signal:
        yield Badge(text=f"the program was ended by {report.signal}", tone="bad")
    yield from (_budget_badge(report, check) for check in report.budgets)
    yield _device_badge(report)
    if report.unexplained:
        yield Badge(text=f"{many(report.unexplained, 'wait')} without a place", tone="doubt")
    if report.unjudged:
        yield Badge(text=f"{counted(len(report.unjudged), 'operator')} cannot be judged without a GPU", tone="doubt")
    if report.unwatched:
        yield Badge(text=f"{counted(len(report.unwatched), 'process')} not watched", tone="doubt")
    if report.untested:
        yield Badge(text=f"not tested with {listed(report.untested[:MAX_PROGRAMS])}", tone="doubt")
    if report.instrument is None and report.profile is None:
        yield Badge(text="counts without times")


def _device_badge(report: SyncReport) -> Badge:
    if report.device == "simulated":
        return Badge(text="counted on a simulated device", tone="doubt")
    return Badge(text="counted on a GPU")


def _budget_badge(report: SyncReport, check: BudgetCheck) -> Badge:
    what = f"budget of {check.region}" if check.region else "budget"
    if not check.num_entries:
        return Badge(text=f"{what}: the region was never entered", tone="bad")
    if check.num_exceeded:
        return Badge(text=f"{what} exceeded: {many(check.worst, 'wait')}, {check.limit} allowed", tone="bad")
    if doubts(report, check.region):
        return Badge(text=f"{what} open: {check.worst} of {check.limit} spent so far as was counted", tone="doubt")
    return Badge(text=f"{what} kept: {check.worst} of {check.limit} spent", tone="good")


def _cards(report: SyncReport) -> Iterator[Card]:
    work, setup = split_setup(report.sites)
    lines = len({(site.file, site.line, site.op) for site in work})
    rest = f"{many(sum(site.count for site in setup), 'wait')} of them while it sets up" if setup else ""
    yield Card(value=number_text(report.host_syncs), label="host syncs in all", note=rest)
    if work:
        counts: dict[str, int] = {}
        for site in work:
            counts[HINTS[site.kind].label] = counts.get(HINTS[site.kind].label, 0) + site.count
        kind, number = max(counts.items(), key=lambda each: each[1])
        note = f"{number_text(number)} are of one kind: {kind}" if len(counts) > 1 else f"of one kind: {kind}"
        yield Card(
            value=number_text(lines), label="source lines that wait" if lines != 1 else "source line waits", note=note
        )
    saving = report.profile.predicted_saving_ms if report.profile else None
    if saving is not None:
        yield Card(
            value=f"{range_text(saving)} ms", label="less without any wait", note="predicted from a profiled run"
        )


def _bars(report: SyncReport) -> Iterator[Bars]:
    """The lines that wait most often, in the colours of their kinds."""
    work = sorted(split_setup(by_role(report.sites))[0], key=lambda site: -site.count)
    if work:
        most = work[0].count
        bars = tuple(_bar(site, most) for site in work[:MAX_LINES])
        kinds = dict.fromkeys(site.kind for site in work[:MAX_LINES])
        rest = sum(site.count for site in work[MAX_LINES:])
        legend = [Span(text=HINTS[kind].label, colour=kind_name(kind)) for kind in kinds]
        legend += [Span(text=f"{many(rest, 'wait')} at other lines are in the table.")] if rest else []
        yield Bars(title="Waits by line and kind", bars=bars, legend=tuple(legend))


def _bar(site: SyncSite, most: int) -> Bar:
    return Bar(
        name=place_text(site),
        is_code=True,
        parts=(Part(share=site.count / most, colour=kind_name(site.kind)),),
        value=number_text(site.count),
        end="allowed" if site.allowed else "",
    )


def _culprit(report: SyncReport) -> Culprit | None:
    """What cost most, else what waits most often, of what no budget allows; None where that is nothing."""
    work = [site for site in split_setup(by_role(report.sites))[0] if not site.is_excused]
    if not work:
        return None
    site = costliest(work) or max(work, key=lambda each: each.count)
    return culprit_card(site, report.subject, "", of_run="run", who=_name(report))
