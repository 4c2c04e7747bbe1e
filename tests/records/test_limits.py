"""A limit is read as people write it, and what cannot be held is refused in one line."""

from __future__ import annotations

import pytest

from bagel_perf.records.errors import UsageError
from bagel_perf.records.gates import Limit, limit_of, limits_for, parse_limit, parse_limits

CASES = ("256x256", "1024x1024", "768x1024")
STAGES = ("ar", "dit", "e2e")


def held(*texts: str) -> tuple[Limit, ...]:
    """Limits as they hold for what was measured."""
    return limits_for(parse_limits(texts), CASES, STAGES)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("dit:3%", Limit(stage="dit", percent=3.0)),
        ("E2E:+20ms", Limit(stage="e2e", ms=20.0)),
        ("ar:+.5%", Limit(stage="ar", percent=0.5)),
        ("1024/dit:2.5%", Limit(stage="dit", case="1024x1024", percent=2.5)),
        ("1024x1024/dit:2.5%", Limit(stage="dit", case="1024x1024", percent=2.5)),
        (" 768X1024/AR:3MS ", Limit(stage="ar", case="768x1024", ms=3.0)),
    ],
)
def test_a_limit_says_case_stage_and_amount(text: str, limit: Limit) -> None:
    assert held(text) == (limit,)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("small/encode:3%", Limit(stage="encode", case="small", percent=3.0)),
        ("a/b/encode:3%", Limit(stage="encode", case="a/b", percent=3.0)),
        ("Long Text/e2e:+2ms", Limit(stage="e2e", case="Long Text", ms=2.0)),
    ],
)
def test_cases_and_stages_are_those_of_any_subject(text: str, limit: Limit) -> None:
    assert limits_for([parse_limit(text)], ("small", "a/b", "Long Text"), ("encode", "decode", "e2e")) == (limit,)


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (Limit(stage="dit", percent=3.0), "dit:3%"),
        (Limit(stage="e2e", ms=20.0), "e2e:+20ms"),
        (Limit(stage="dit", case="1024", percent=2.5), "1024/dit:2.5%"),
        (Limit(stage="ar", case="768x1024", ms=1e-5), "768x1024/ar:+0.00001ms"),
        (Limit(stage="ar", percent=1e22), "ar:10000000000000000000000%"),
    ],
)
def test_a_limit_reads_its_own_text_as_itself(limit: Limit, text: str) -> None:
    assert str(limit) == text
    assert parse_limit(text) == limit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "limit is not understood (''); [CASE/]STAGE:N%"),
        ("dit", "limit is not understood ('dit')"),
        ("/dit:3%", "limit is not understood ('/dit:3%')"),
        ("dit:1e3%", "limit is not understood"),
        ("dit:3%,ar:2%", "limit is not understood"),
        ("dit:%", "limit has no number (dit:%)"),
        ("dit:nan%", "limit has no number (dit:nan%)"),
        ("dit:inf%", "limit has no number (dit:inf%)"),
        ("dit:1.2.3%", "limit has no number (dit:1.2.3%)"),
        ("dit:3", "unknown unit of a limit (dit:3); % or ms; write dit:3% or dit:+20ms"),
        ("dit:3s", "unknown unit of a limit (dit:3s)"),
        ("dit:3%%", "unknown unit of a limit (dit:3%%)"),
        ("dit:-3%", "limit is out of range (dit:-3%); more than 0, and finite; say by how much"),
        ("dit:0%", "limit is out of range (dit:0%)"),
        ("dit:-0.0ms", "limit is out of range (dit:-0.0ms)"),
        ("dit:" + "9" * 400 + "%", "limit is out of range"),
    ],
)
def test_a_limit_that_cannot_be_held_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_limit(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vae:3%", "unknown stage of a limit (vae:3%); measured: ar, dit, e2e"),
        ("each stage:3%", "unknown stage of a limit (each stage:3%); measured: ar, dit, e2e"),
        (
            "0x16/dit:3%",
            "limit is of a case that was not measured (0x16/dit:3%); measured: 256x256, 1024x1024, 768x1024",
        ),
        ("17/dit:3%", "limit is of a case that was not measured (17/dit:3%)"),
        ("big/dit:3%", "limit is of a case that was not measured (big/dit:3%)"),
        ("a/b/dit:3%", "limit is of a case that was not measured (a/b/dit:3%)"),
        ("768/dit:3%", "limit is of a case that was not measured (768/dit:3%)"),
        (" /dit:3%", "limit is not understood"),
    ],
)
def test_a_limit_of_what_was_not_measured_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        held(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("percent", "ms"),
    [(None, None), (3.0, 20.0), (-3.0, None), (0.0, None), (float("nan"), None), (None, float("inf"))],
)
def test_an_illegal_limit_cannot_be_built(percent: float | None, ms: float | None) -> None:
    with pytest.raises(UsageError):
        Limit(stage="dit", percent=percent, ms=ms)


@pytest.mark.parametrize("twice", ["dit:5%", "DIT:+20ms"])
def test_two_limits_for_the_same_cell_are_refused(twice: str) -> None:
    with pytest.raises(UsageError, match=r"limit is given twice \(dit:3%, (?i:dit):.*leave dit:3% or (?i:dit):"):
        held("dit:3%", "ar:3%", twice)


def test_a_square_is_the_same_cell_however_it_is_written() -> None:
    with pytest.raises(UsageError, match="limit is given twice"):
        held("1024/dit:3%", "1024x1024/dit:3%")


def test_a_case_that_is_named_as_the_side_of_another_is_itself() -> None:
    (limit,) = limits_for([parse_limit("16/e2e:3%")], ("16x16", "16"), ("e2e",))
    assert limit.case == "16"


def test_a_limit_that_names_the_case_outranks_the_general_one() -> None:
    limits = held("dit:3%", "1024/dit:+20ms", "768x1024/ar:1%")
    assert limit_of(limits, "1024x1024", "dit") == Limit(stage="dit", case="1024x1024", ms=20.0)
    assert limit_of(limits[::-1], "1024x1024", "dit") == Limit(stage="dit", case="1024x1024", ms=20.0)
    assert limit_of(limits, "256x256", "dit") == Limit(stage="dit", percent=3.0)
    assert limit_of(limits, "768x1024", "ar") == Limit(stage="ar", case="768x1024", percent=1.0)
    assert limit_of(limits, "256x256", "ar") is None
    assert limit_of(limits, "256x256", "e2e") is None


def test_a_limit_of_no_stage_holds_for_each_that_has_none() -> None:
    limits = limits_for([Limit(percent=5.0), *parse_limits(["dit:3%"])], CASES, STAGES)
    assert limit_of(limits, "256x256", "dit") == Limit(stage="dit", percent=3.0)
    assert limit_of(limits, "256x256", "ar") == Limit(percent=5.0)
