"""The first screen of a result: one sentence with absolute numbers, badges, numbers large, bars, and one culprit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bagel_perf.records.outlines import WHOLE
from bagel_perf.records.results import Delta, IdentityCheck, Result
from bagel_perf.records.runs import CountedRun, runs_of
from bagel_perf.records.sites import HINTS
from bagel_perf.records.syncs import SyncReport
from bagel_perf.report.html import svg
from bagel_perf.report.html.bars import latency_bars
from bagel_perf.report.html.content import Badge, Badges, Block, Bullets, Card, Cards, Section, first_screen
from bagel_perf.report.html.culprit import culprit_of
from bagel_perf.report.html.headline import MAX_NAMES, headline
from bagel_perf.report.html.sites import place_text
from bagel_perf.report.html.standing import Pairing, checks_of, lead, regressions, without_waits, wrong_checks
from bagel_perf.report.html.words import case_text, change_pct, number_text, percent_text, stopped
from bagel_perf.report.table import counted, listed, noise_floor_of, stage_text, unit_text
from bagel_perf.report.tables import distance_text
from bagel_perf.verdicts.plausible import contradictions
from bagel_perf.verdicts.statistics import MIN_PROCESSES

MAX_FINDINGS = 3
MAX_LAST = 20
"""Host syncs that are left: of no more than that the place of most is named."""
END_TO_END = "end to end"


def answer_section(result: Result, reports: Sequence[SyncReport] = ()) -> Section:
    """What was shown, in the order in which somebody asks."""
    wrong = contradictions(result)
    found = None if wrong else lead(result)
    return first_screen(
        headline(result, found, is_contradictory=bool(wrong)),
        Badges(badges=tuple(badges(result, found))),
        *_findings(result, wrong),
        Cards(cards=tuple(_cards(result, found))),
        *latency_bars(result),
        culprit_of(result, reports),
    )


def _findings(result: Result, wrong: Sequence[str]) -> Iterator[Block]:
    """Why it did not pass, below the sentence that says so; ``wrong`` is where the result contradicts itself."""
    found = [*wrong, *map(stopped, result.findings)]
    found += [f"Ended early: {stopped(result.error)}"] if result.error is not None else []
    more = [f"{len(found) - MAX_FINDINGS} more are in the notes."] if len(found) > MAX_FINDINGS else []
    if found:
        yield Bullets(items=(*found[:MAX_FINDINGS], *more))


def badges(result: Result, found: Pairing | None) -> Iterator[Badge]:
    """Whether outputs are right, how much was measured, and every caveat in a few words."""
    yield from _identity_badges(result)
    yield from _size_badges(result, found)
    yield from _slower_badges(result)
    yield from _caveats(result)


def _identity_badges(result: Result) -> Iterator[Badge]:
    exact, wrong = checks_of(result, bitwise=True), wrong_checks(result)
    noun = result.outline.noun
    for each in wrong[:MAX_NAMES]:
        yield Badge(text=f"{svg.short(each.candidate)}: another {noun} at {case_text(each.case)}", tone="bad")
    if len(wrong) > MAX_NAMES:
        yield Badge(text=f"{len(wrong) - MAX_NAMES} more {noun}s differ", tone="bad")
    if exact and not any(each in wrong for each in exact):
        runs = number_text(sum(each.num_runs for each in exact))
        of_whom = " of bitwise variants" if checks_of(result, bitwise=False) else ""
        yield Badge(text=f"identical in {runs} of {runs} runs{of_whom}", tone="good")
    if not result.identity:
        yield Badge(text=f"no {noun}s were compared", tone="doubt")
    loose = [each for each in checks_of(result, bitwise=False) if each.is_ok]
    for name in list(dict.fromkeys(each.candidate for each in loose))[:MAX_NAMES]:
        yield _tolerance_badge([each for each in loose if each.candidate == name])


def _tolerance_badge(checks: Sequence[IdentityCheck]) -> Badge:
    first = checks[0]
    assert first.tolerance is not None
    far = [each for each in checks if each.distance is not None]
    limit = f"{first.tolerance.limit:g}{first.tolerance.unit}"
    if not far:
        return Badge(text=f"{svg.short(first.candidate)}: the same values, {limit} allowed")
    sign = 1 if first.tolerance.kind == "psnr" else -1
    worst = min(far, key=lambda each: sign * (each.distance or 0.0))
    return Badge(text=f"{svg.short(worst.candidate)}: {distance_text(worst)} at worst, {limit} asked for")


def _size_badges(result: Result, found: Pairing | None) -> Iterator[Badge]:
    if found is None or found.delta is None:
        return
    unit = "round" if result.unit == "round" else "pair"
    processes = found.delta.num_processes or result.processes
    amount = counted(found.delta.num_pairs, unit)
    yield Badge(text=amount if unit == "round" else f"{amount}, {counted(processes, 'process')}")
    floor_pct = noise_floor_of(result, found.case, WHOLE)
    if floor_pct is None:
        yield Badge(text="noise was not measured", tone="doubt")
    elif floor_pct > abs(found.delta.delta_pct):
        yield Badge(text=f"noise \u00b1{floor_pct:.1f}%, more than the change", tone="doubt")
    else:
        yield Badge(text=f"noise \u00b1{floor_pct:.1f}%")
    without = [delta.ci_pct is None for delta in result.deltas]
    if any(without):
        few = f"fewer than {MIN_PROCESSES} {'rounds' if unit_text(result) == 'round' else 'processes'}"
        whose = "" if all(without) else " of some changes"
        yield Badge(text=f"no interval{whose}: {few}", tone="doubt")


def _slower_badges(result: Result) -> Iterator[Badge]:
    found = list(regressions(result))
    for delta in found[:MAX_NAMES]:
        yield Badge(text=_slower_text(delta), tone="bad")
    if len(found) > MAX_NAMES:
        yield Badge(text=f"{len(found) - MAX_NAMES} more changes are slower", tone="bad")


def _slower_text(delta: Delta) -> str:
    what = "" if delta.stage == WHOLE else f"{stage_text(delta.stage)} of "
    return f"{what}{svg.short(delta.candidate)} at {case_text(delta.case)} is slower: {percent_text(delta.delta_pct)}"


def _caveats(result: Result) -> Iterator[Badge]:
    environment = result.environment
    if not result.complete:
        yield Badge(text="the run ended early", tone="bad")
    if environment.device_kind == "cpu":
        yield Badge(text="CPU latencies: they predict nothing about a GPU", tone="doubt")
    if any(cell.sync_device == "simulated" for cell in result.cells):
        yield Badge(text="host syncs were counted on a simulated device", tone="doubt")
    if "random" in str(result.subject.details.get("weights", "")):
        yield Badge(text="weights are random: speed and identity only")
    if unlike := dict.fromkeys(key for each in result.variants[: result.num_named] for key in each.made_with):
        yield Badge(text=f"variants ran with unlike {listed([*unlike][:MAX_NAMES])}", tone="doubt")
    if result.outline.is_server:
        yield Badge(text="each server is one process, whose luck is in the change", tone="doubt")
    if result.excluded:
        yield Badge(text=f"{counted(len(result.excluded), 'run')} excluded")
    if environment.dirty and not result.outline.is_server:
        yield Badge(text="the code had uncommitted changes", tone="doubt")


def _cards(result: Result, found: Pairing | None) -> Iterator[Card]:
    """The change of the whole, what not waiting gave by itself where that can be told, and the host syncs."""
    if found is None:
        return
    alone = without_waits(result, found.case)
    if found.medians_ms is not None and found.delta is not None:
        yield Card(
            value=percent_text(change_pct(*found.medians_ms)),
            label=f"{END_TO_END}, delta of medians",
            note=_paired_text(found.delta),
        )
    if alone is not None and alone.name != found.name:
        yield _waits_card(alone, found)
    before, after = found.before.host_syncs, found.after.host_syncs
    if before is not None and after is not None:
        what = "picture" if result.outline.noun == "picture" else "run"
        device = ", on the simulated device" if found.after.sync_device == "simulated" else ""
        yield Card(
            value=f"{number_text(before)} \u2192 {number_text(after)}",
            label=f"host syncs a {what}{device}",
            note=_last_syncs(result, found),
        )


def _paired_text(delta: Delta) -> str:
    paired = f"paired change {percent_text(delta.delta_pct)}"
    if delta.ci_pct is None:
        return f"{paired}, no interval"
    low, high = map(percent_text, delta.ci_pct)
    state = ", not shown" if delta.verdict == "no difference shown" else ""
    return f"{paired} ({low} to {high}){state}"


def _waits_card(alone: Pairing, found: Pairing) -> Card:
    """What not waiting gave; what came with the rest is named only where counts tell it."""
    assert alone.medians_ms is not None
    works = alone.after.work, found.after.work
    others = []
    if works[1] is not None and works[1].graph_launches:
        others.append("graphs")
    if works[0] is not None and works[1] is not None and works[1].kernels < works[0].kernels:
        others.append("fewer kernels")
    rest = f"; the rest came with {listed(others)}" if others else ""
    has_interval = alone.delta is not None and alone.delta.ci_pct is not None
    doubt = ", a change that was not shown" if has_interval else ", without an interval"
    doubt = {"improved": "", "regressed": ", which is slower"}.get(alone.delta.verdict if alone.delta else "", doubt)
    return Card(
        value=percent_text(change_pct(*alone.medians_ms)),
        label="by not waiting alone",
        note=f"{svg.short(alone.name)}{doubt}{rest}",
    )


def _last_syncs(result: Result, found: Pairing) -> str:
    """What the waits are that are left, where they are few and their places known."""
    number = found.after.host_syncs or 0
    runs = [r for r in runs_of(CountedRun, result.runs) if (r.variant, r.case) == (found.name, found.case) and r.sites]
    if not number:
        return "none is left" if found.before.host_syncs else ""
    if number > MAX_LAST or not runs:
        return ""
    site = max(runs[-1].sites, key=lambda each: each.count)
    kind = HINTS[site.kind].label
    if number == 1:
        return f"the last one is a {kind} at {place_text(site)}"
    return f"{site.count} of the last {number} at {place_text(site)}: {kind}"
