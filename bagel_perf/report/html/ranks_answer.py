"""The first screen of several ranks: who was late, what the others waited, and each rank's window as a bar."""

from __future__ import annotations

from collections.abc import Iterator

from bagel_perf.records.trace_ranks import RanksReport, RankTrace
from bagel_perf.report.html.colours import cause_name, kind_name, part_name
from bagel_perf.report.html.content import (
    Badge,
    Badges,
    Bar,
    Bars,
    Block,
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
from bagel_perf.report.html.words import number_text, sentence, times_text
from bagel_perf.report.ranks import advice, exposed_ms, headline, shown_rank
from bagel_perf.report.table import counted
from bagel_perf.report.trace_tables import CAUSE_LABELS, short_name

MAX_BARS = 8
NAME_WIDTH = 160
WORK, EXPOSED, IDLE = "l-gpu", part_name(0), "shade"
LEGEND = (
    Span(text="at work", colour=WORK),
    Span(text="communication with nothing computed beside", colour=EXPOSED),
    Span(text="idle", colour=IDLE),
)


def ranks_answer(report: RanksReport) -> Section:
    """Who was late, or that nobody was, and what to do next."""
    busy, late = headline(report)
    warnings = [Badge(text=warning, tone="bad") for warning in report.warnings]
    size = [Badge(text=counted(len(report.ranks), "rank"))]
    size += [Badge(text=counted(len(report.steps), "shared step"))] if report.steps else []
    return first_screen(
        [Span(text=sentence(late))],
        Badges(badges=(*warnings, *size)),
        Cards(cards=tuple(_cards(report))),
        *_bars(report),
        _culprit(report),
        Text(text=sentence(busy)),
        Text(text=f"Next: {sentence(advice(report))}"),
    )


def _cards(report: RanksReport) -> Iterator[Card]:
    late = report.straggler
    if late is not None:
        steps = f"last in {number_text(late.late_steps)} of {counted(late.steps, 'steady step')}"
        waited = f"{late.delayed_ms:.2f} ms"
        yield Card(value=waited, label=f"that all others together waited for rank {late.rank}", note=steps)
    known = [each for each in report.ranks if each.report.gpu_idle_ms is not None and each.report.window_ms]
    if known:
        worst = max(known, key=_idle_share)
        note = f"rank {worst.rank}, in {times_text([worst.report.window_ms])[0]}"
        yield Card(value=f"{_idle_share(worst):.0%}", label="idle on the GPU that was idle most", note=note)


def _idle_share(each: RankTrace) -> float:
    return (each.report.gpu_idle_ms or 0.0) / (each.report.window_ms * max(len(each.report.devices), 1))


def _bars(report: RanksReport) -> Iterator[Block]:
    """The windows of the ranks on one axis, those beyond the first few folded."""
    found = [(each.rank, times) for each in report.ranks if (times := _times(each))]
    longest = max((sum(times) for _, times in found), default=0.0)
    if longest > 0:
        bars = tuple(_bar(rank, times, longest) for rank, times in found)
        yield Bars(title="The window of each rank", bars=bars[:MAX_BARS], legend=LEGEND)
        if bars[MAX_BARS:]:
            rest = Bars(title="The window of each rank", bars=bars[MAX_BARS:], legend=LEGEND)
            yield Fold(summary=f"{len(bars) - MAX_BARS} more ranks", blocks=(rest,))


def _times(each: RankTrace) -> tuple[float, ...]:
    """Milliseconds at work, in exposed communication, and idle; nothing where one is unknown."""
    report, exposed = each.report, exposed_ms(each.report)
    if report.gpu_busy_ms is None or report.gpu_idle_ms is None or exposed is None:
        return ()
    return max(report.gpu_busy_ms - exposed, 0.0), exposed, report.gpu_idle_ms


def _bar(rank: int, times: tuple[float, ...], longest: float) -> Bar:
    parts = zip(times, (WORK, EXPOSED, IDLE), strict=True)
    return Bar(
        name=f"rank {rank}",
        parts=tuple(Part(share=ms / longest, colour=colour) for ms, colour in parts),
        value=times_text([sum(times)])[0],
        end=f"{times[2] / sum(times):.0%} idle" if sum(times) else "",
    )


def _culprit(report: RanksReport) -> Culprit | None:
    """What the late rank does that the others do less, else what left the idlest one idle; None where neither is."""
    late = report.straggler
    if late is not None and late.what:
        how = "worked" if late.reason == "compute" else "was idle"
        return Culprit(
            title=f"What rank {late.rank} does longer than the others",
            place=short_name(late.what, NAME_WIDTH),
            text=f"Its GPU {how} for {late.extra_ms:.2f} ms more than that of the median rank.",
            colour=cause_name(late.cause) if late.cause else kind_name("unknown"),
        )
    shown = shown_rank(report)
    worst = next((each for each in shown.report.culprits if each.what), None)
    if worst is None:
        return None
    return Culprit(
        title=f"What left rank {shown.rank} idle longest",
        place=short_name(worst.what, NAME_WIDTH),
        text=f"Its GPU was idle for {worst.idle_ms:.2f} ms meanwhile ({CAUSE_LABELS[worst.cause]}).",
        colour=cause_name(worst.cause),
    )
