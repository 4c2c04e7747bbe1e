"""Counters are held to what is expected in both directions, and a finding names the line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bagel_perf.analysis.drift import drift, only_of, site_name, sites_by_name
from bagel_perf.report.expected_text import expected_toml
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.expected import Expected, ExpectedRun, load_expected
from bagel_perf.schema.sites import Site

SITE = Site(
    kind="mask_gather", file="kernels_x/routing.py", line=26, function="route", region="ar/decoder/route", count=4
)
NAME = "kernels_x/routing.py route: bool-mask gather"
RUN = ExpectedRun(
    request="i2i 48x64",
    variant="pr3987",
    pixels="00ff",
    latents="11ee",
    ar={"host syncs": 5, "uploads": 2, NAME: 4},
    dit={"host syncs": 1, "products": 30},
)
EXPECTED = Expected(reason='why "so"', made_with={"torch": "2.13"}, runs=(RUN, replace(RUN, variant="baseline")))


def found(**ar: int) -> Expected:
    counters = {**RUN.ar, **{key.replace("_", " "): value for key, value in ar.items()}}
    return replace(EXPECTED, runs=(replace(RUN, ar=counters), EXPECTED.runs[1]))


def messages(ours: Expected) -> list[str]:
    return [finding.message for finding in drift(EXPECTED, ours, {NAME: SITE})]


def test_a_site_is_named_without_its_line() -> None:
    assert site_name(SITE) == site_name(replace(SITE, line=90)) == NAME
    assert sites_by_name([]) == {}


def test_what_is_as_expected_gives_no_finding() -> None:
    assert messages(EXPECTED) == []


@pytest.mark.parametrize("count", [1, 3])
def test_any_other_number_is_a_finding(count: int) -> None:
    (message,) = messages(found(uploads=count))
    assert message.startswith(f"uploads: {count}, expected 2 in AR of pr3987 (i2i 48x64); bagel-perf gate --update")


def test_a_counter_that_is_gone_or_new_is_a_finding() -> None:
    gone = replace(EXPECTED, runs=(replace(RUN, dit={"host syncs": 1}), EXPECTED.runs[1]))
    assert messages(gone)[0].startswith("products: 0, expected 30 in DiT")
    assert messages(found(downloads=1))[0].startswith("downloads: 1, expected 0 in AR")


@pytest.mark.parametrize(
    ("before", "after", "amount"), [(4, 5, "more"), (4, 3, "fewer"), (0, 1, "new"), (4, 0, "fewer")]
)
def test_a_site_is_shown_with_its_line_and_explains_the_sum(before: int, after: int, amount: str) -> None:
    theirs = replace(EXPECTED, runs=(replace(RUN, ar={"host syncs": 1 + before, NAME: before}),))
    ours = replace(EXPECTED, runs=(replace(RUN, ar={"host syncs": 1 + after, NAME: after}),))
    (finding,) = drift(theirs, ours, {NAME: SITE})
    assert finding.message.startswith(f"{amount} host syncs at kernels_x/routing.py:26 in route: bool-mask gather")
    assert f"{after}, expected {before}" in finding.message
    assert (finding.file, finding.line) == ("kernels_x/routing.py", 26)
    assert ("instead" in finding.message or "rows" in finding.message) is (after > before), (
        "a hint only for what is new"
    )


def test_a_site_that_is_gone_everywhere_is_named_all_the_same() -> None:
    ours = replace(EXPECTED, runs=tuple(replace(run, ar={"host syncs": 1, "uploads": 2}) for run in EXPECTED.runs))
    (finding,) = drift(EXPECTED, ours, {})
    assert finding.message.startswith(
        f"fewer host syncs at {NAME}, 0, expected 4 in AR of pr3987 (i2i 48x64) and 1 more run;"
    )


def test_alike_changes_of_several_runs_are_one_finding() -> None:
    ours = replace(EXPECTED, runs=tuple(replace(run, dit={"host syncs": 1, "products": 31}) for run in EXPECTED.runs))
    assert len(messages(ours)) == 1


def test_a_counter_that_names_a_line_is_shown_there() -> None:
    name = "side streams at kernels_x/routing.py:23 in route"
    ours = replace(EXPECTED, runs=(replace(RUN, dit={**RUN.dit, name: 4}), EXPECTED.runs[1]))
    (finding,) = drift(EXPECTED, ours, {})
    assert finding.message.startswith(f"{name}: 4, expected 0 in DiT of pr3987")
    assert (finding.file, finding.line) == ("kernels_x/routing.py", 23)


def test_a_run_that_is_missing_or_unexpected_is_a_finding() -> None:
    assert messages(replace(EXPECTED, runs=EXPECTED.runs[:1])) == [
        'baseline was not counted under i2i 48x64; bagel-perf gate --update "REASON" records it'
    ]
    more = (*EXPECTED.runs, replace(RUN, variant="fused"))
    assert messages(replace(EXPECTED, runs=more))[0].startswith("nothing is expected of fused under i2i 48x64")


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
    with pytest.raises(UsageError, match=r'no expected counters .*--update "REASON" writes one'):
        load_expected(tmp_path / "missing.toml")


def test_a_run_that_was_refused_hides_no_drift_of_the_others() -> None:
    ours = replace(found(uploads=3), runs=found(uploads=3).runs[:1])
    assert len(list(drift(EXPECTED, ours, {}))) == 2
    (message,) = (finding.message for finding in drift(only_of(ours, EXPECTED), ours, {}))
    assert message.startswith("uploads: 3, expected 2")
