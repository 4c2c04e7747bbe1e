"""The sentence of a page is true of its data, whatever that is: numbers, identity, and what counts as a gain."""

from __future__ import annotations

import functools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import other_subjects
from bagel_perf.records.outlines import WHOLE
from bagel_perf.records.results import Cell, DeltaVerdict, Result
from bagel_perf.report.html.answer import answer_section
from bagel_perf.report.html.bars import latency_bars
from bagel_perf.report.html.colours import variant_name
from bagel_perf.report.html.content import Badges, Bars, Cards
from bagel_perf.report.html.standing import lead
from bagel_perf.report.html.words import SCALES, case_text, change_pct, percent_text, times_text
from gated_results import make_result, with_picture

GAINS = re.compile(r"(makes|runs|answers with) .* instead of|is faster")
TIME = re.compile(r"([\d,]+(?:\.\d+)?) (s|ms|us|ns)\b")
TWO_SIZES = ((256, 256), (512, 512))
VERDICTS: tuple[DeltaVerdict, ...] = ("improved", "regressed", "no difference shown", "inconclusive", "invalid")


@functools.cache
def base() -> Result:
    """Three variants, the last with a tolerance, in two cases."""
    return other_subjects.make_result()


def headline(result: Result) -> str:
    return answer_section(result).heading


def of_kind(result: Result, kind: type) -> list[object]:
    return [block for block in answer_section(result).blocks if isinstance(block, kind)]


def with_medians(result: Result, medians_ms: dict[str, float]) -> Result:
    """With these medians of the whole, by variant, in each case."""

    def edited(cell: Cell) -> Cell:
        found_ms = medians_ms[cell.variant]
        return replace(cell, median_ms=found_ms, latency_ms=(found_ms,)) if cell.stage == WHOLE else cell

    cells = tuple(map(edited, result.cells))
    return replace(result, cells=cells)


def with_changes(result: Result, changes: dict[str, tuple[DeltaVerdict, float]]) -> Result:
    deltas = tuple(
        replace(delta, verdict=changes[delta.candidate][0], delta_pct=changes[delta.candidate][1])
        for delta in result.deltas
    )
    return replace(result, deltas=deltas)


medians = st.floats(1e-5, 1e8)
changes = st.tuples(st.sampled_from(VERDICTS), st.floats(-90, 300))


def in_ms(number: str, unit: str) -> float:
    return float(number.replace(",", "")) * next(scale for scale, name in SCALES if name == unit)


@settings(max_examples=150, deadline=None)
@given(st.tuples(medians, medians, medians), st.tuples(changes, changes))
def test_times_are_the_medians_and_no_change_that_was_not_shown_is_a_gain(
    found_ms: tuple[float, float, float], judged: tuple[tuple[DeltaVerdict, float], tuple[DeltaVerdict, float]]
) -> None:
    names = base().named
    result = with_changes(
        with_medians(base(), dict(zip(names, found_ms, strict=True))), dict(zip(names[1:], judged, strict=True))
    )
    chosen = lead(result)
    assert chosen is not None and chosen.delta is not None and chosen.medians_ms is not None
    text = headline(result)
    told = [in_ms(*each) for each in TIME.findall(text)[:2]]
    assert sorted(told) == pytest.approx(sorted(chosen.medians_ms), rel=0.006)
    shown, change = chosen.delta.verdict, change_pct(*chosen.medians_ms)
    assert bool(GAINS.search(text)) == (shown == "improved" and not chosen.is_odd)
    if GAINS.search(text):
        assert change < 0 and told[0] < told[1]
    if " is slower than " in text:
        assert shown == "regressed" and told[0] > told[1]


@given(st.lists(medians, min_size=2, max_size=2))
def test_times_that_are_told_can_be_divided(values: list[float]) -> None:
    shown = [in_ms(*found) for text in times_text(values) for found in TIME.findall(text)]
    assert len(shown) == 2
    assert shown[1] / shown[0] == pytest.approx(values[1] / values[0], rel=0.011)


@given(st.floats(-99.999999, 1e9))
def test_a_change_is_told_with_its_sign_and_nothing_takes_no_time(change: float) -> None:
    text = percent_text(change)
    assert text != "\u2212100.0%"
    number = float(text.replace("\u2212", "-").replace(",", "").rstrip("%"))
    assert number == pytest.approx(change, abs=0.0501) and number > -100


@settings(deadline=None)
@given(st.sets(st.integers(0, 3)), st.booleans(), st.booleans())
def test_the_same_to_the_bit_is_said_only_of_what_was_compared_and_is(
    kept: set[int], is_wrong: bool, is_tolerant_lead: bool
) -> None:
    result = base()
    identity = tuple(each for number, each in enumerate(result.identity) if number in kept)
    if is_wrong:
        identity = tuple(replace(each, identical=False, tolerance=None) for each in identity)
    result = replace(result, identity=identity)
    if is_tolerant_lead:
        result = replace(
            result,
            deltas=tuple(each for each in result.deltas if each.candidate == "half"),
            cells=tuple(
                replace(each, latency_ms=(), median_ms=None, host_syncs=None, syncs_by_component=None)
                if each.variant == "folded"
                else each
                for each in result.cells
            ),
        )
    text = headline(result)
    chosen = lead(result)
    own = [each for each in identity if chosen is not None and each.candidate == chosen.name]
    if "the same to the bit" in text:
        assert identity and (all(each.identical for each in identity) or (own and all(each.identical for each in own)))
    if text.endswith(("Every output is the same to the bit.", "Its outputs are the same to the bit.")):
        names = result.named[1:] if "Every" in text else [chosen.name if chosen else ""]
        assert {(each.case, each.candidate) for each in identity} >= {(c, n) for c in result.cases for n in names}


def test_what_was_not_compared_is_not_said_to_be_the_same() -> None:
    result = make_result({"pr3987": {"e2e": -5.0}, "sync_free": {"e2e": -20.0}}, sizes=TWO_SIZES)
    half = replace(result, identity=tuple(each for each in result.identity if each.candidate == "pr3987"))
    assert headline(result).endswith("Every picture is the same to the bit.")
    assert headline(half).endswith("Every picture that was compared is the same to the bit.")


def test_a_variant_that_is_wrong_in_one_case_is_praised_in_none() -> None:
    result = make_result(
        {"sync_free": {"e2e": -20.0}},
        sizes=TWO_SIZES,
        edit=lambda run: with_picture(run, "sync_free") if run.case == "256x256" else run,
    )
    assert headline(result) == (
        "sync_free gives other pictures than baseline at 256 \u00d7 256, and no speed makes up for that."
    )
    assert not of_kind(result, Cards)


@pytest.mark.parametrize(("verdict", "more"), [("improved", "less"), ("regressed", "more")])
def test_a_change_that_only_pairs_show_is_told_as_such(verdict: DeltaVerdict, more: str) -> None:
    result = with_changes(
        with_medians(make_result({"pr3987": {"e2e": -5.0}}), {"baseline": 1000.0, "pr3987": 1000.0}),
        {"pr3987": (verdict, 4.0)},
    )
    assert headline(result).startswith(
        f"pr3987 takes 4.0% {more} in pairs for a 256 \u00d7 256 picture, though the medians are 1.00 s and, before,"
    )
    (bars,) = (block for block in latency_bars(result) if isinstance(block, Bars))
    assert bars.bars[1].change == f"0.0% {more} in pairs"


def test_times_far_apart_have_each_their_unit() -> None:
    assert times_text([1760.0, 0.176]) == ["1.76 s", "176 us"]
    assert times_text([1.76e-6, 1.41e-6]) == ["1.76 ns", "1.41 ns"]
    assert percent_text(-99.99) == "\u221299.99%" and percent_text(100_024.0) == "+100,024.0%"
    assert percent_text(-100.0) == "\u2212100.0%"


def test_a_run_without_latencies_tells_its_counts() -> None:
    result = make_result({"sync_free": {}}, num_pairs=0)
    alone = replace(
        result,
        variants=result.variants[:1],
        num_named=1,
        identity=(),
        cells=tuple(cell for cell in result.cells if cell.variant == "baseline"),
    )
    assert headline(alone) == (
        "baseline waits 7,006 times for a 256 \u00d7 256 picture. Nothing was timed, and nothing compared with it."
    )


def test_only_where_no_change_has_an_interval_it_is_said_of_all() -> None:
    result = make_result({"pr3987": {"e2e": -5.0}, "sync_free": {"e2e": -20.0}})
    some = replace(
        result,
        deltas=tuple(
            replace(delta, ci_pct=None, verdict="inconclusive") if delta.candidate == "pr3987" else delta
            for delta in result.deltas
        ),
    )
    (badges,) = of_kind(some, Badges)
    assert isinstance(badges, Badges)
    assert "no interval of some changes: fewer than 6 processes" in [badge.text for badge in badges.badges]


def test_a_case_without_a_name_is_told_as_such() -> None:
    assert case_text("") == "(no name)" and case_text("__proto__") == "__proto__"


@given(st.integers(2, 40))
def test_the_reference_shares_its_colour_with_no_variant(number: int) -> None:
    colours = [variant_name(index) for index in range(number)]
    assert colours.count(colours[0]) == 1
    assert len(set(colours)) == min(number, 12)
