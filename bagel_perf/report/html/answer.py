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
from bagel_perf.report.html.colours import variant_name
from bagel_perf.report.html.content import (
    Badge,
    Badges,
    Block,
    Bullets,
    Card,
    Cards,
    Section,
    Span,
)
from bagel_perf.report.html.culprit import culprit_of
from bagel_perf.report.html.sites import place_text
from bagel_perf.report.html.standing import (
    Pairing,
    checks_of,
    lead,
    pairing,
    regressions,
    without_waits,
    wrong_checks,
)
from bagel_perf.report.html.words import (
    case_text,
    change_pct,
    many,
    number_text,
    percent_text,
    stopped,
    thing_text,
    times_text,
)
from bagel_perf.report.table import counted, listed, noise_floor_of, stage_text, unit_text
from bagel_perf.report.tables import distance_text
from bagel_perf.verdicts.plausible import contradictions
from bagel_perf.verdicts.statistics import MIN_PROCESSES

MAX_FINDINGS = 3
MAX_NAMES = 3
MAX_LAST = 20
"""Host syncs that are left: of no more than that the place of most is named."""
END_TO_END = "end to end"


def answer_section(result: Result, reports: Sequence[SyncReport] = ()) -> Section:
    """What was shown, in the order in which somebody asks."""
    found = None if contradictions(result) else lead(result)
    cards = tuple(_cards(result, found))
    culprit = culprit_of(result, reports)
    return Section(
        anchor="answer",
        title="Answer",
        headline=headline(result),
        blocks=(
            Badges(badges=tuple(badges(result, found))),
            *_findings(result),
            *((Cards(cards=cards),) if cards else ()),
            *latency_bars(result),
            *((culprit,) if culprit else ()),
        ),
    )


def _findings(result: Result) -> Iterator[Block]:
    """Why it did not pass, below the sentence that says so."""
    found = [*contradictions(result), *map(stopped, result.findings)]
    found += [f"Ended early: {stopped(result.error)}"] if result.error is not None else []
    more = [f"{len(found) - MAX_FINDINGS} more are in the notes."] if len(found) > MAX_FINDINGS else []
    if found:
        yield Bullets(items=(*found[:MAX_FINDINGS], *more))


def headline(result: Result) -> tuple[Span, ...]:
    """What is wrong, if anything is; then what was measured; then whether outputs are the same."""
    spans = [*_trouble(result)]
    found = None if contradictions(result) else lead(result)
    if found is not None:
        spans += [*_spaced(spans), *_gain(result, found)]
    elif not spans:
        spans += [*_alone(result)]
    if not (wrong_checks(result) or contradictions(result)) and (same := _sameness(result, found)):
        spans.append(Span(text=f" {same}"))
    return tuple(spans)


def _spaced(before: Sequence[Span]) -> list[Span]:
    return [Span(text=" ")] if before else []


def _named(result: Result, name: str) -> Span:
    """A variant in its colour; a mixture has none."""
    colour = variant_name(result.named.index(name)) if name in result.named else ""
    return Span(text=svg.short(name), colour=colour)


def _trouble(result: Result) -> Iterator[Span]:
    """What a reader has to know before any figure."""
    wrong = wrong_checks(result)
    nouns = f"{result.outline.noun}s"
    if contradictions(result):
        yield Span(text="This file contradicts itself, so none of its figures can be trusted.")
    elif wrong:
        names = list(dict.fromkeys(each.candidate for each in wrong))
        shown = names[:MAX_NAMES]
        for number, name in enumerate(shown):
            joint = "" if number == 0 else " and " if number == len(shown) - 1 and len(names) == len(shown) else ", "
            yield from (Span(text=joint), _named(result, name))
        more = f" and {counted(len(names) - MAX_NAMES, 'variant')} more" if len(names) > MAX_NAMES else ""
        cases = listed([case_text(case) for case in dict.fromkeys(each.case for each in wrong)][:MAX_NAMES])
        gives = "gives" if len(names) == 1 else "give"
        first = svg.short(result.named[0])
        yield Span(text=f"{more} {gives} other {nouns} than {first} at {cases}, and no speed makes up for that.")
    elif result.verdict == "incomplete" or not result.complete:
        yield Span(text="The run ended early, so this is a part of what was to be measured.")
    elif result.verdict == "invalid":
        yield Span(text="The latencies cannot be trusted: the findings say why.")


def _gain(result: Result, found: Pairing) -> Iterator[Span]:
    """One sentence on the whole of the variant that stands for the result, and one on a case that shows another."""
    thing, name = thing_text(result, found.case), _named(result, found.name)
    if found.medians_ms is None or found.delta is None:
        yield from _counts(result, found)
        return
    before, after = times_text(found.medians_ms)
    where = " on a CPU" if result.environment.device_kind == "cpu" else ""
    first = svg.short(result.named[0])
    verdict = found.delta.verdict
    if result.verdict == "invalid":
        yield from (name, Span(text=f" took {after} instead of {before} for {thing}{where}."))
        return
    if verdict == "no difference shown":
        yield Span(text=f"No difference in speed was shown between {first} and ")
        yield from (name, Span(text=f": {thing} takes {before} and {after}{where}."))
    elif found.is_odd:
        yield from (name, Span(text=f" takes {_in_pairs(found.delta)} for {thing}{where}"))
        yield Span(text=f", though the medians are {after} and, before, {before}.")
    elif verdict == "regressed":
        yield from (name, Span(text=f" is slower than {first}: {thing} takes {after} instead of {before}{where}."))
    elif verdict == "improved":
        yield from (name, Span(text=f" {_does(result)} {thing} in {after} instead of {before}{where}."))
    else:
        yield from (name, Span(text=f" took {after} instead of {before} for {thing}{where}, {_open(result, found)}."))
    yield from _other_case(result, found)


def _in_pairs(delta: Delta) -> str:
    """A change that was shown, in words."""
    more = "less" if delta.verdict == "improved" else "more"
    size = percent_text(abs(delta.delta_pct)).lstrip("+")
    return f"{'under 0.1%' if size == '0.0%' else size} {more} in pairs"


def _does(result: Result) -> str:
    return "runs" if result.outline.noun == "output" else "answers with" if result.outline.is_server else "makes"


def _open(result: Result, found: Pairing) -> str:
    """Why nothing is decided."""
    assert found.delta is not None
    if found.delta.verdict == "invalid":
        return "which is not valid"
    if found.delta.ci_pct is None:
        units = counted(found.delta.num_processes, unit_text(result)) if found.delta.num_processes else "one process"
        return f"in {units}, too few to be sure"
    return "which decides nothing within this noise"


def _other_case(result: Result, found: Pairing) -> Iterator[Span]:
    """The first other case that says something else of the same variant."""
    assert found.delta is not None
    for case in result.cases:
        other = next((d for d in result.deltas if (d.case, d.stage, d.candidate) == (case, WHOLE, found.name)), None)
        if case == found.case or other is None or other.verdict == found.delta.verdict:
            continue
        there = pairing(result, case, found.name)
        if there is not None and there.medians_ms is not None:
            before, after = times_text(there.medians_ms)
            how = {"improved": "it is faster", "regressed": "it is slower"}.get(other.verdict, "nothing is shown")
            text = f"{how}: {after} instead of {before}."
            if there.is_odd:
                text = f"it takes {_in_pairs(other)}, though the medians are {after} and, before, {before}."
            yield Span(text=f" At {case_text(case)} {text}")
            return


def _counts(result: Result, found: Pairing) -> Iterator[Span]:
    """Where there is no latency: how often the two wait."""
    before, after = found.before.host_syncs, found.after.host_syncs
    thing = thing_text(result, found.case)
    if before is None or after is None:
        yield Span(text=f"Nothing was timed of {thing}.")
        return
    device = "on the simulated device" if found.after.sync_device == "simulated" else "for the GPU"
    if before == after:
        yield from (_named(result, found.name), Span(text=f" waits {many(after, 'time')} {device} for {thing}, "))
        yield Span(text=f"as often as {svg.short(result.named[0])}. Nothing was timed.")
        return
    yield _named(result, found.name)
    yield Span(text=f" waits {many(after, 'time')} instead of {number_text(before)} {device} for {thing}.")
    yield Span(text=" Nothing was timed.")


def _alone(result: Result) -> Iterator[Span]:
    """Of a single variant, or where no other one came to run."""
    first = result.named[0]
    whole = [each for each in result.cells if (each.variant, each.stage) == (first, WHOLE)]
    timed = [each for each in whole if each.median_ms is not None]
    known = timed or [each for each in whole if each.host_syncs is not None]
    if not known:
        is_any = any(each.median_ms is not None for each in result.cells)
        yield Span(text="No run was measured end to end." if is_any else "Nothing was measured.")
        return
    cell = known[-1]
    where = " on a CPU" if result.environment.device_kind == "cpu" else ""
    waits = "" if cell.host_syncs is None else f"waits {many(cell.host_syncs, 'time')}"
    yield _named(result, first)
    if cell.median_ms is None:
        yield Span(
            text=f" {waits} for {thing_text(result, cell.case)}. Nothing was timed, and nothing compared with it."
        )
        return
    yield Span(text=f" {_does(result)} {thing_text(result, cell.case)} in {times_text([cell.median_ms])[0]}")
    yield Span(text=f"{where}{' and ' * bool(waits)}{waits}. Nothing was compared with it.")


def _sameness(result: Result, found: Pairing | None) -> str:
    """What is known of the outputs, all of which are right: of all, or beside tolerances of the variant."""
    noun, exact = result.outline.noun, checks_of(result, bitwise=True)
    if not result.identity:
        return "" if found is None else f"No two {noun}s were compared."
    if len(exact) == len(result.identity):
        compared = "" if _is_all_compared(result) else " that was compared"
        return f"Every {noun}{compared} is the same to the bit."
    if found is None:
        return f"Every {noun} that was compared is the same to the bit or within the tolerance that it declares."
    own = [each for each in result.identity if each.candidate == found.name]
    if not own:
        return f"Its {noun}s were not compared."
    compared = "" if _is_all_compared(result, found.name) else " that were compared"
    if all(each.identical for each in own):
        return f"Its {noun}s{compared} are the same to the bit."
    if all(each.identical or each.distance is None for each in own):
        return f"Its {noun}s{compared} have the same values, in other bytes."
    return f"Its {noun}s{compared} differ, and stay within the tolerance that it declares."


def _is_all_compared(result: Result, *names: str) -> bool:
    """Whether every output of these variants, of all where none is named, was held against the first one's."""
    checked = {(each.case, each.candidate) for each in result.identity}
    known = {(each.case, each.variant) for each in result.cells}
    known |= {(each.case, each.variant) for each in result.outputs}
    return all((case, name) in checked for case, name in known if name in (names or result.named[1:]))


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
