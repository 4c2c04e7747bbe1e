"""Counters are held to what is expected in both directions, and a finding names the line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.records.bagel import Request
from bagel_perf.records.errors import UsageError
from bagel_perf.records.expectations import Counters, Expected, ExpectedPicture, ExpectedRun, load_expected
from bagel_perf.records.runs import CountedRun, CountedStage
from bagel_perf.records.sites import SyncSite
from bagel_perf.report.gates import expected_toml
from bagel_perf.verdicts.drift import Found, Spot, Stages, drift, found_in, measured, named, not_judged, request_label
from scripted import CPU, make_run

SITE = SyncSite(
    kind="mask_gather", file="kernels_x/routing.py", line=26, function="route", region="ar/decoder/route", count=4
)
NAME = "kernels_x/routing.py route: bool-mask gather"
PRODUCTS = "kernels_x/routing.py route: products"
SPOT = Spot(name=NAME, file="kernels_x/routing.py", line=26, function="route", count=4, site=SITE)
RUN = ExpectedRun(
    request="i2i 48x64",
    variant="pr3987",
    ar={"host syncs": 5, "uploads": 2, NAME: 4},
    dit={"host syncs": 1, PRODUCTS: 30},
    again_ar={},
    again_dit={"calls of replay": 4},
)
PICTURE = ExpectedPicture(
    request="i2i 48x64",
    pixels="00ff",
    latents="11ee",
    contexts_print=(0.5, -0.25),
    latents_print=(1.0,),
    pixels_print=(127.5,),
)
OTHER = replace(RUN, variant="baseline")
EXPECTED = Expected(reason='why "so"', made_with={"torch": "2.13"}, pictures=(PICTURE,), runs=(RUN, OTHER))


def found(
    ar: Counters | None = None,
    dit: Counters | None = None,
    *,
    passes: tuple[int, ...] = (0, 1, 2),
    spots: tuple[Spot, ...] = (),
    variants: tuple[str, ...] = ("pr3987", "baseline"),
) -> Found:
    """What was counted: as expected but for some counters of the first variant, in some passes."""
    counters: dict[tuple[str, str, int], Stages] = {}
    for variant in variants:
        for number in range(3):
            again = RUN.again_dit if number else {}
            is_other = variant == "pr3987" and number in passes
            counters["i2i 48x64", variant, number] = {
                "ar": {**RUN.ar, **((ar or {}) if is_other else {})},
                "dit": {**RUN.dit, **again, **((dit or {}) if is_other else {})},
            }
    return Found(counters=counters, spots={key: {"ar": spots, "dit": spots} for key in counters})


def messages(ours: Found) -> list[str]:
    return [finding.message for finding in drift(EXPECTED.runs, ours)]


def test_what_is_as_expected_gives_no_finding() -> None:
    assert messages(found()) == []


@pytest.mark.parametrize("count", [1, 3])
def test_any_other_number_is_a_finding(count: int) -> None:
    (message,) = messages(found({"uploads": count}, passes=(0,)))
    assert message.startswith(f"uploads: {count}, expected 2 in AR of pr3987 (i2i 48x64); bagel-perf gate --update")


@pytest.mark.parametrize(("number", "name"), [(1, "again"), (2, "another")])
def test_a_later_request_is_judged_by_itself(number: int, name: str) -> None:
    (message,) = messages(found({"uploads": 3}, passes=(number,)))
    assert message.startswith(f"uploads: 3, expected 2 in AR of pr3987 (i2i 48x64, {name});")
    (message,) = messages(found(dit={"calls of replay": 3}, passes=(number,)))
    assert message.startswith(f"calls of replay: 3, expected 4 in DiT of pr3987 (i2i 48x64, {name});")


def test_a_counter_that_is_gone_or_new_is_a_finding() -> None:
    assert messages(found(dit={PRODUCTS: 0}))[0].startswith(
        "fewer products in kernels_x/routing.py route, 0, expected 30 in DiT"
    )
    assert messages(found({"downloads": 1}))[0].startswith("downloads: 1, expected 0 in AR")


@pytest.mark.parametrize(("after", "amount"), [(5, "more"), (3, "fewer")])
def test_a_site_is_shown_with_its_line_and_explains_the_sum(after: int, amount: str) -> None:
    ours = found({"host syncs": 1 + after, NAME: after}, spots=(SPOT,))
    (finding,) = drift(EXPECTED.runs, ours)
    assert finding.message.startswith(f"{amount} host syncs at kernels_x/routing.py:26 in route: bool-mask gather")
    assert f"{after}, expected 4" in finding.message
    assert (finding.file, finding.line) == ("kernels_x/routing.py", 26)
    assert ("instead" in finding.message or "rows" in finding.message) is (after > 4), "a hint only for what is new"


def test_the_line_that_counts_for_the_surplus_is_the_one_that_is_named() -> None:
    spots = (SPOT, dataclasses.replace(SPOT, line=31, count=2))
    (finding,) = drift(EXPECTED.runs, found({"host syncs": 7, NAME: 6}, spots=spots))
    assert finding.message.startswith("more host syncs at kernels_x/routing.py:31 in route")
    (finding,) = drift(EXPECTED.runs, found({"host syncs": 8, NAME: 7}, spots=spots))
    assert finding.message.startswith("more host syncs at kernels_x/routing.py:26, kernels_x/routing.py:31 in route")


def test_a_site_that_is_gone_everywhere_is_named_all_the_same() -> None:
    (finding,) = drift(EXPECTED.runs, found({"host syncs": 1, NAME: 0}))
    assert finding.message.startswith(
        f"fewer host syncs at {NAME}, 0, expected 4 in AR of pr3987 (i2i 48x64) and 2 more runs;"
    )


def test_operators_depend_on_the_release_of_torch_and_products_do_not() -> None:
    operators = "kernels_x/routing.py route: operators"
    ours = found(dit={operators: 3, PRODUCTS: 31})
    assert len(list(drift(EXPECTED.runs, ours))) == 2
    (finding,) = drift(EXPECTED.runs, ours, of_release=False)
    assert "products" in finding.message
    assert not_judged({"torch": "2.13.0+cpu"}, {"torch": "2.13.1"}) == ()
    (note,) = not_judged({"torch": "2.13.0"}, {"torch": "2.14.0"})
    assert "torch is 2.14, was 2.13" in note


def test_a_run_that_is_missing_or_unexpected_is_a_finding() -> None:
    assert messages(found(variants=("pr3987",))) == [
        'baseline was not counted under i2i 48x64; bagel-perf gate --update "REASON" records it'
    ]
    assert messages(found(variants=("pr3987", "baseline", "fused")))[0].startswith(
        "nothing is expected of fused under i2i 48x64"
    )


REQUEST = Request(width=48, height=64)


def counted(number: int) -> CountedRun:
    run = make_run(CountedRun, "baseline", REQUEST)
    measurements = (
        CountedStage(stage="ar", host_syncs=4, syncs_by_component={}, counters={}),
        CountedStage(
            stage="dit",
            host_syncs=0,
            syncs_by_component={},
            counters={"products at a.py:3 in f.<locals>.<listcomp>": 7},
        ),
    )
    return replace(run, round=number, measurements=measurements, sites=(SITE,))


def test_lines_are_left_out_of_names_and_kept_beside_them() -> None:
    ours = found_in([REQUEST], [counted(0)])
    key = request_label(REQUEST), "baseline", 0
    assert ours.counters[key] == {"ar": {"host syncs": 4, NAME: 4}, "dit": {"host syncs": 0, "a.py f: products": 7}}
    assert [(spot.file, spot.line, spot.count) for spot in ours.spots[key]["dit"]] == [("a.py", 3, 7)]
    assert named("a.py", "<genexpr>", "products") == "a.py <genexpr>: products"


def test_a_wait_inside_a_library_is_at_the_line_that_got_there() -> None:
    site = replace(SITE, file="weakref.py", line=591, function="finalize.__call__", caller="kernels_x/loop.py:19")
    (spot,) = found_in([REQUEST], [replace(counted(0), sites=(site,))]).spots[request_label(REQUEST), "baseline", 0][
        "ar"
    ]
    assert (spot.file, spot.line, spot.function) == ("kernels_x/loop.py", 19, "finalize.__call__ of weakref.py")


def test_what_is_measured_passes_as_what_is_expected() -> None:
    runs = [counted(number) for number in range(3)]
    expected = measured(CPU, [REQUEST], runs, "a test", "baseline")
    assert list(drift(expected.runs, found_in([REQUEST], runs))) == []
    assert [picture.request for picture in expected.pictures] == [request_label(REQUEST)]


def test_the_file_reads_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(expected_toml(EXPECTED), encoding="utf-8")
    assert load_expected(path) == EXPECTED


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x = [", "expected counters are no TOML"),
        ('schema = "other"', "expected counters are not usable"),
        ('schema = "bagel-perf.expected"\nversion = 9', "expected counters are not usable"),
        ('schema = "bagel-perf.expected"\nversion = 1', "expected counters are not usable"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=what):
        load_expected(path)
    with pytest.raises(UsageError, match=r'no expected counters .*--update "REASON" writes them'):
        load_expected(tmp_path / "missing.toml")
