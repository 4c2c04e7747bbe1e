"""The one sentence of a result, with absolute numbers: what is faster, and whether its outputs are the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bagel_perf.records.outlines import WHOLE
from bagel_perf.records.results import Delta, Result
from bagel_perf.report.html import svg
from bagel_perf.report.html.colours import variant_name
from bagel_perf.report.html.content import Span
from bagel_perf.report.html.standing import Pairing, checks_of, pairing, wrong_checks
from bagel_perf.report.html.words import case_text, many, number_text, percent_text, thing_text, times_text
from bagel_perf.report.table import counted, delta_of, listed, unit_text

MAX_NAMES = 3


def headline(result: Result, found: Pairing | None, *, is_contradictory: bool) -> tuple[Span, ...]:
    """What is wrong, if anything is; then what was measured; then whether outputs are the same.

    ``found`` stands for the result, None where nothing does or it ``is_contradictory``.
    """
    spans = [*_trouble(result, is_contradictory=is_contradictory)]
    if found is not None:
        spans += [*_spaced(spans), *_gain(result, found)]
    elif not spans:
        spans += [*_alone(result)]
    if not (wrong_checks(result) or is_contradictory) and (same := _sameness(result, found)):
        spans.append(Span(text=f" {same}"))
    return tuple(spans)


def _spaced(before: Sequence[Span]) -> list[Span]:
    return [Span(text=" ")] if before else []


def _named(result: Result, name: str) -> Span:
    """A variant in its colour; a mixture has none."""
    colour = variant_name(result.named.index(name)) if name in result.named else ""
    return Span(text=svg.short(name), colour=colour)


def _trouble(result: Result, *, is_contradictory: bool) -> Iterator[Span]:
    """What a reader has to know before any figure."""
    wrong = wrong_checks(result)
    nouns = f"{result.outline.noun}s"
    if is_contradictory:
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
        other = delta_of(result.deltas, case, WHOLE, found.name)
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
