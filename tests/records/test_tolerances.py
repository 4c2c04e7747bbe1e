"""A tolerance is read as people write it, judges on the side of its limit, and no text reads better than the value."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagel_perf.records import codec
from bagel_perf.records.errors import UsageError
from bagel_perf.records.outlines import FARTHEST, KINDS, MAX_LEVEL, NAMES, Tolerance, ToleranceKind

LIMITS = st.floats(min_value=1e-9, max_value=1e9)
TOLERANCES = st.builds(Tolerance, kind=st.sampled_from(KINDS), limit=LIMITS)
DISTANCES = st.one_of(st.floats(min_value=0.0), st.just(math.inf), st.just(math.nan))


@pytest.mark.parametrize(
    ("text", "kind", "limit"),
    [
        ("psnr:40", "psnr", 40.0),
        ("psnr:39.5", "psnr", 39.5),
        (" rel_l2:1e-3 ", "rel_l2", 1e-3),
        ("rel_l2: 0.001", "rel_l2", 1e-3),
        ("max_abs:2", "max_abs", 2.0),
    ],
)
def test_a_tolerance_names_its_kind_and_limit(text: str, kind: ToleranceKind, limit: float) -> None:
    assert Tolerance.parse(text) == Tolerance(kind=kind, limit=limit)


@pytest.mark.parametrize(
    ("given_value", "message"),
    [
        ("", "tolerance is not understood ('')"),
        ("psnr", "tolerance is not understood ('psnr')"),
        ("40", "tolerance is not understood ('40')"),
        ("psnr:", "tolerance is not understood"),
        ("psnr:forty", "tolerance is not understood"),
        ("psnr:40 dB", "tolerance is not understood"),
        ("PSNR:40", "tolerance is not understood"),
        ("ssim:0.9", "tolerance is not understood ('ssim:0.9'); psnr:DB for pictures, rel_l2:SHARE or max_abs:NUMBER"),
        ("x" * 1000, "tolerance is not understood"),
        (40.0, "tolerance is not understood (40.0)"),
        (None, "tolerance is not understood (None)"),
        ("psnr:0", "tolerance is out of range (psnr:0); more than 0 and less than 1e+12"),
        ("psnr:-40", "tolerance is out of range (psnr:-40)"),
        ("rel_l2:nan", "tolerance is out of range (rel_l2:nan)"),
        ("max_abs:inf", "tolerance is out of range (max_abs:inf)"),
        ("max_abs:1e12", "tolerance is out of range (max_abs:1e+12)"),
    ],
)
def test_what_is_no_tolerance_is_refused_in_one_line(given_value: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Tolerance.parse(given_value)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@given(TOLERANCES)
def test_a_tolerance_reads_its_own_text_and_its_own_json(tolerance: Tolerance) -> None:
    assert Tolerance.parse(str(tolerance)) == tolerance
    assert codec.from_json(Tolerance, json.loads(json.dumps(codec.to_json(tolerance)))) == tolerance


def test_a_text_is_as_short_as_its_number() -> None:
    assert [str(Tolerance.parse(each)) for each in ("psnr:40", "rel_l2:1e-3")] == ["psnr:40", "rel_l2:0.001"]


def test_a_mean_square_is_read_in_decibels_and_others_as_they_are() -> None:
    psnr = Tolerance(kind="psnr", limit=40.0)
    assert psnr.reading(0.5) == pytest.approx(51.1411)
    assert psnr.reading(MAX_LEVEL**2) == 0.0
    assert Tolerance(kind="rel_l2", limit=1e-3).reading(2e-4) == 2e-4
    assert Tolerance(kind="max_abs", limit=1.0).reading(3.0) == 3.0
    assert (psnr.unit, Tolerance(kind="rel_l2", limit=1.0).unit) == (" dB", "")
    assert set(NAMES) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_values_are_no_distance_apart_and_hold(kind: ToleranceKind) -> None:
    tolerance = Tolerance(kind=kind, limit=1.0)
    assert tolerance.reading(0.0) is None
    assert tolerance.holds(None)


@pytest.mark.parametrize(
    ("text", "reading", "holds"),
    [
        ("psnr:40", 40.0, True),
        ("psnr:40", 39.999, False),
        ("psnr:40", 60.0, True),
        ("rel_l2:1e-3", 1e-3, True),
        ("rel_l2:1e-3", 1.0001e-3, False),
        ("rel_l2:1e-3", 0.0001, True),
        ("max_abs:2", 2.0, True),
        ("max_abs:2", 2.5, False),
    ],
)
def test_a_limit_itself_is_within_it(text: str, reading: float, holds: bool) -> None:
    assert Tolerance.parse(text).holds(reading) is holds


@given(TOLERANCES, DISTANCES)
def test_every_distance_has_a_reading_that_survives_json(tolerance: Tolerance, distance: float) -> None:
    """What is infinitely far, or of which nothing is known, must not come back as equal."""
    reading = tolerance.reading(distance)
    assert (reading is None) == (distance == 0)
    assert reading is None or math.isfinite(reading)
    assert codec.to_json(reading) == reading


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("distance", [math.inf, math.nan, None])
def test_what_is_infinitely_far_is_beyond_every_limit(kind: ToleranceKind, distance: float | None) -> None:
    for limit in (1e-6, 1.0, FARTHEST / 2):
        tolerance = Tolerance(kind=kind, limit=limit)
        reading = tolerance.reading(tolerance.farthest if distance is None else distance)
        assert not tolerance.holds(reading)


@pytest.mark.parametrize(
    ("text", "reading", "shown"),
    [
        ("psnr:40", 50.896, "50.8"),
        ("psnr:40", 39.996, "39.99"),
        ("psnr:40", 40.0, "40.00"),
        ("rel_l2:1e-3", 2.3e-4, "0.00023"),
        ("rel_l2:1e-3", 2.341e-4, "0.000235"),
        ("rel_l2:1e-3", 1.00001e-3, "0.00101"),
        ("rel_l2:1.2345e-3", 1.2341e-3, "0.0012341"),
        ("max_abs:2", 0.9991, "1"),
        ("max_abs:2", 12345.6, "1.24e+04"),
    ],
)
def test_a_reading_is_rounded_to_the_far_side(text: str, reading: float, shown: str) -> None:
    assert Tolerance.parse(text).text(reading) == shown


@given(TOLERANCES, DISTANCES.filter(lambda distance: distance != 0))
def test_no_text_reads_better_than_the_value_or_on_the_other_side_of_the_limit(
    tolerance: Tolerance, distance: float
) -> None:
    reading = tolerance.reading(distance)
    assert reading is not None
    shown = float(tolerance.text(reading))
    assert shown <= reading if tolerance.kind == "psnr" else shown >= reading
    if tolerance.kind != "psnr" or float(f"{tolerance.limit:.2f}") == tolerance.limit:
        assert tolerance.holds(shown) == tolerance.holds(reading)
