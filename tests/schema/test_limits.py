"""A limit is read as people write it, and what cannot be held is refused in one line."""

from __future__ import annotations

import pytest

from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.limits import Limit, limit_of, parse_limit, parse_limits


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("dit:3%", Limit(stage="dit", percent=3.0)),
        ("E2E:+20ms", Limit(stage="e2e", ms=20.0)),
        ("ar:+.5%", Limit(stage="ar", percent=0.5)),
        ("1024/dit:2.5%", Limit(stage="dit", res=1024, percent=2.5)),
        ("1024x1024/dit:2.5%", Limit(stage="dit", res=1024, percent=2.5)),
        (" 768X1024/AR:3MS ", Limit(stage="ar", res="768x1024", ms=3.0)),
    ],
)
def test_a_limit_says_resolution_stage_and_amount(text: str, limit: Limit) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (Limit(stage="dit", percent=3.0), "dit:3%"),
        (Limit(stage="e2e", ms=20.0), "e2e:+20ms"),
        (Limit(stage="dit", res=1024, percent=2.5), "1024/dit:2.5%"),
        (Limit(stage="ar", res="768x1024", ms=1e-5), "768x1024/ar:+0.00001ms"),
        (Limit(stage="ar", percent=1e22), "ar:10000000000000000000000%"),
    ],
)
def test_a_limit_reads_its_own_text_as_itself(limit: Limit, text: str) -> None:
    assert str(limit) == text
    assert parse_limit(text) == limit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "limit is not understood (''); [RES/]STAGE:N%"),
        ("dit", "limit is not understood ('dit')"),
        ("/dit:3%", "limit is not understood ('/dit:3%')"),
        ("a/b/dit:3%", "limit is not understood"),
        ("dit:1e3%", "limit is not understood"),
        ("dit:3%,ar:2%", "limit is not understood"),
        ("vae:3%", "unknown stage of a limit (vae:3%); allowed: ar, dit, e2e"),
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
        ("0x16/dit:3%", "resolution is not possible (0x16)"),
        ("17/dit:3%", "resolution is not possible (17x17)"),
        ("big/dit:3%", "resolution is not understood (big)"),
    ],
)
def test_a_limit_that_cannot_be_held_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_limit(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("percent", "ms", "res"),
    [
        (None, None, None),
        (3.0, 20.0, None),
        (-3.0, None, None),
        (float("nan"), None, None),
        (None, float("inf"), None),
        (3.0, None, "1024"),
        (3.0, None, "1024x1024"),
        (3.0, None, 17),
    ],
)
def test_an_illegal_limit_cannot_be_built(percent: float | None, ms: float | None, res: int | str | None) -> None:
    with pytest.raises(UsageError):
        Limit(stage="dit", res=res, percent=percent, ms=ms)


def test_a_limit_of_an_unknown_stage_cannot_be_built() -> None:
    with pytest.raises(UsageError, match="unknown stage"):
        Limit(stage="vae", percent=3.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("twice", ["dit:5%", "DIT:+20ms"])
def test_two_limits_for_the_same_cell_are_refused(twice: str) -> None:
    with pytest.raises(UsageError, match=r"limit is given twice \(dit:3%, dit:.*leave dit:3% or dit:"):
        parse_limits(["dit:3%", "ar:3%", twice])


def test_a_square_is_the_same_cell_however_it_is_written() -> None:
    with pytest.raises(UsageError, match="limit is given twice"):
        parse_limits(["1024/dit:3%", "1024x1024/dit:3%"])


def test_a_limit_that_names_the_resolution_outranks_the_general_one() -> None:
    limits = parse_limits(["dit:3%", "1024/dit:+20ms", "768x1024/ar:1%"])
    assert limit_of(limits, 1024, "dit") == Limit(stage="dit", res=1024, ms=20.0)
    assert limit_of(limits[::-1], 1024, "dit") == Limit(stage="dit", res=1024, ms=20.0)
    assert limit_of(limits, 256, "dit") == Limit(stage="dit", percent=3.0)
    assert limit_of(limits, "768x1024", "ar") == Limit(stage="ar", res="768x1024", percent=1.0)
    assert limit_of(limits, 256, "ar") is None
    assert limit_of(limits, 256, "e2e") is None
