"""The one plot of the first screen: each variant as a bar with stages and interval, its host syncs at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from bagel_perf.records.outlines import WHOLE
from bagel_perf.records.results import Delta, Result
from bagel_perf.report.html import svg
from bagel_perf.report.html.colours import variant_name
from bagel_perf.report.html.content import Bar, Bars, Block, Fold, Part, Span
from bagel_perf.report.html.standing import best_of, is_odd, lead, without_waits, wrong_checks
from bagel_perf.report.html.words import case_text, change_pct, many, percent_text, times_text
from bagel_perf.report.table import cell_of, delta_of, stage_text

MAX_BARS = 5
"""Of one case: with more variants the rest is folded."""
MAX_OPEN = 12
"""Lines of all plots, each of which has two beside its bars: what goes beyond is folded."""
MAX_CASES = 12
ROOM = 1.35
"""Of the longest bar: how far an interval may stretch the axis."""
WHISKERS = "Whiskers: interval of the paired change."
NOT_SHOWN = "Not shown: judged with all changes of the result, this one may be 0."


def latency_bars(result: Result) -> Iterator[Block]:
    """The case that the answer is about first, others as far as there is room, the rest folded."""
    found = lead(result)
    order = [found.case] if found else []
    order += [case for case in reversed(result.cases) if case not in order]
    drawn = [(case, bars) for case in order[:MAX_CASES] if (bars := _of_case(result, case)) is not None]
    room = MAX_OPEN
    folded: list[Block] = []
    legend: tuple[Span, ...] = ()
    for number, (case, bars) in enumerate(drawn):
        room -= len(bars.bars) + 2
        if number and room < 0:
            folded.append(bars)
        else:
            yield dataclasses.replace(bars, legend=() if bars.legend == legend else bars.legend)
            yield from _rest(result, case)
            legend = bars.legend
    if folded:
        yield Fold(summary=f"{len(folded)} more {'case' if len(folded) == 1 else 'cases'}", blocks=tuple(folded))


def shown_variants(result: Result, case: str) -> list[str]:
    """All where they are few; else the first, the best, the one that only waits less, and the last."""
    if len(result.named) <= MAX_BARS:
        return list(result.named)
    best, alone = best_of(result, case), without_waits(result, case)
    wrong = [each.candidate for each in wrong_checks(result) if each.case == case][:1]
    chosen = {result.named[0], result.named[-1], *wrong}
    chosen |= {each.name for each in (best, alone) if each is not None}
    return [name for name in result.named if name in chosen]


def _rest(result: Result, case: str) -> Iterator[Block]:
    """The bars of the variants that there was no room for, on the same axis."""
    names = shown_variants(result, case)
    others = [name for name in result.named if name not in names]
    bars = _drawn(result, case, others) if others else None
    if bars is not None:
        yield Fold(
            summary=f"{len(others)} more {'variant' if len(others) == 1 else 'variants'} at {case_text(case)}",
            blocks=(bars,),
        )


def _title(result: Result, case: str) -> str:
    what = "latency" if any(each.case == case and each.median_ms is not None for each in result.cells) else "host syncs"
    on = " on a CPU" if what == "latency" and result.environment.device_kind == "cpu" else ""
    return f"{case_text(case)}: {what}{on}"


def _of_case(result: Result, case: str) -> Bars | None:
    return _drawn(result, case, shown_variants(result, case))


def _drawn(result: Result, case: str, names: Sequence[str]) -> Bars | None:
    """Bars of latencies, or of host syncs where nothing was timed; None where there is neither."""
    cells = {name: cell_of(result, case, WHOLE, name) for name in result.named}
    medians = {n: c.median_ms for n, c in cells.items() if c is not None and svg.is_plain(c.median_ms)}
    if medians:
        return _latencies(result, case, names, {name: ms or 0.0 for name, ms in medians.items()})
    counts = {n: c.host_syncs for n, c in cells.items() if c is not None and c.host_syncs is not None}
    most = max(counts.values(), default=0)
    if not counts:
        return None
    bars = tuple(
        Bar(
            name=name,
            parts=(Part(share=counts[name] / most if most else 0.0, colour=_colour(result, name)),),
            value=many(counts[name], "sync"),
        )
        for name in names
        if name in counts
    )
    return Bars(title=_title(result, case), bars=bars) if bars else None


def _colour(result: Result, name: str) -> str:
    return variant_name(result.named.index(name))


def _latencies(result: Result, case: str, names: Sequence[str], medians: dict[str, float]) -> Bars:
    first = medians.get(result.named[0])
    deltas = {name: delta_of(result.deltas, case, WHOLE, name) for name in names}
    longest = max(medians.values())
    ends = [first * (1 + end / 100) for each in deltas.values() for end in _interval(each)] if first else []
    axis = max(longest, min(max(ends, default=0.0), ROOM * longest)) or 1.0
    texts = dict(zip(medians, times_text(list(medians.values())), strict=True))
    bars, has_stages = [], False
    for name in names:
        cell = cell_of(result, case, WHOLE, name)
        if name not in medians:
            is_wrong = any((each.case, each.candidate) == (case, name) for each in wrong_checks(result))
            value = f"another {result.outline.noun}" if is_wrong else "not timed"
            bars.append(Bar(name=name, parts=(), value=value, end=_syncs(result, case, name)))
            continue
        parts = _parts(result, case, name, medians[name] / axis)
        has_stages |= len(parts) > 1
        bars.append(
            Bar(
                name=name,
                parts=parts,
                value=texts[name],
                change=_change(medians, result.named[0], name, deltas[name]),
                end=_syncs(result, case, name) if cell is not None else "",
                whisker=_whisker(first, axis, deltas[name]),
            )
        )
    return Bars(title=_title(result, case), bars=tuple(bars), legend=tuple(_legend(result, bars, has_stages)))


def _interval(delta: Delta | None) -> tuple[float, ...]:
    return delta.ci_pct if delta is not None and delta.ci_pct is not None and svg.is_plain(*delta.ci_pct) else ()


def _whisker(first_ms: float | None, axis_ms: float, delta: Delta | None) -> tuple[float, float] | None:
    """The interval as shares of the axis, cut where that ends."""
    ends = _interval(delta)
    if not ends or first_ms is None:
        return None
    low, high = (min(max(first_ms * (1 + end / 100) / axis_ms, 0.0), 1.0) for end in ends)
    return low, high


def _parts(result: Result, case: str, name: str, share: float) -> tuple[Part, ...]:
    """The whole split as the stages' medians are, light and dark by turns; one piece where they are not all known."""
    colour = _colour(result, name)
    stages = [stage for stage in result.timed_stages if stage != WHOLE]
    cells = [cell_of(result, case, stage, name) for stage in stages]
    times = [cell.median_ms for cell in cells if cell is not None and svg.is_plain(cell.median_ms)]
    if len(times) < 2 or len(times) < len(stages):
        return (Part(share=share, colour=colour),)
    total = sum(each or 0.0 for each in times) or 1.0
    return tuple(
        Part(share=share * (each or 0.0) / total, colour=colour, is_light=number % 2 == 0)
        for number, each in enumerate(times)
    )


def _change(medians: dict[str, float], first: str, name: str, delta: Delta | None) -> str:
    """The delta of the medians, and in words where it is not a shown gain."""
    if name == first or first not in medians:
        return ""
    text = percent_text(change_pct(medians[first], medians[name]))
    if delta is None:
        return text
    if is_odd(delta, medians[first], medians[name]):
        return f"{text} {'less' if delta.verdict == 'improved' else 'more'} in pairs"
    words = {"improved": "", "regressed": " slower", "no difference shown": " not shown", "invalid": " invalid"}
    return f"{text}{words.get(delta.verdict, ' undecided')}"


def _syncs(result: Result, case: str, name: str) -> str:
    cell = cell_of(result, case, WHOLE, name)
    return "" if cell is None or cell.host_syncs is None else many(cell.host_syncs, "sync")


def _legend(result: Result, bars: Sequence[Bar], has_stages: bool) -> Iterator[Span]:
    stages = [stage_text(stage) for stage in result.timed_stages if stage != WHOLE]
    if has_stages and len(stages) == 2:
        yield Span(text=f"Pale part: {stages[0]}; full part: {stages[1]}.")
    elif has_stages:
        yield Span(text=f"Parts, from left to right: {', '.join(stages)}.")
    if any(bar.whisker for bar in bars):
        yield Span(text=WHISKERS)
    if any(bar.change.endswith("not shown") for bar in bars):
        yield Span(text=NOT_SHOWN)
