"""What a declared tolerance is judged against, where its limit lies, and how it reads where nothing is beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.records.errors import UsageError
from bagel_perf.records.outlines import Tolerance
from bagel_perf.records.results import Result
from bagel_perf.records.runs import Run
from bagel_perf.report.summary import verdict_lines
from bagel_perf.report.tables import result_tables, tolerance_lines
from bagel_perf.verdicts.compare import Session, build_result
from docs_results import section
from scripted import ENVIRONMENT, make_outline, make_plan, make_runs

PSNR_40 = Tolerance(kind="psnr", limit=40.0)


def result_of(variants: Sequence[str], mse: float, *, others: str = "") -> Result:
    """A comparison in which approx_norm is this far from the first variant; ``others`` is the md5 of its pictures."""

    def drawn(run: Run) -> Run:
        if run.variant != "approx_norm":
            return run
        return replace(run, distance=mse, output=replace(run.output, md5=others or run.output.md5))

    plan = make_plan(variants=variants)
    session = Session(
        command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=6, warmup=1, order_seed=0, processes=6
    )
    return build_result(make_outline(plan), ENVIRONMENT, [drawn(run) for run in make_runs(plan, 6)], session)


def mse_of(psnr_db: float) -> float:
    return float(255**2 / 10 ** (psnr_db / 10))


@pytest.mark.parametrize(
    "variants", [("approx_norm", "baseline"), ("approx_norm", "fused", "baseline"), ("approx_norm", "fused")]
)
def test_a_picture_held_to_a_tolerance_is_no_reference(variants: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        make_plan(variants=variants)
    others = ",".join(name for name in variants if name != "baseline")
    assert str(caught.value) == (
        "the first variant is the reference, and its picture is held only to a tolerance (approx_norm); "
        f"it has to be bitwise; put baseline first: --variants baseline,{others}"
    )


def test_any_bitwise_variant_is_a_reference() -> None:
    assert make_plan(variants=("fused", "approx_norm")).variants == ("fused", "approx_norm")
    assert make_plan(variants=("approx_norm-norm_activate", "approx_norm")).variants[0] == "approx_norm-norm_activate"


def test_the_same_pixels_in_another_png_are_within_a_tolerance() -> None:
    result = result_of(("baseline", "approx_norm"), 0.0, others="0" * 32)
    check = result.identity[0]
    assert (check.identical, check.distance, check.is_ok) == (False, None, True)
    assert result.exit_code == 0
    assert [row[-1] for row in tolerance_rows(result)] == ["same values"] * 3
    line = "- approx_norm at 256x256: same values as baseline's picture, in other bytes; 40 dB asked for, 9 runs"
    assert [*tolerance_lines(result)] == [line]


def test_the_same_pixels_in_another_png_are_not_bitwise() -> None:
    check = result_of(("baseline", "approx_norm"), 0.0, others="0" * 32).identity[0]
    assert not replace(check, tolerance=None).is_ok


def tolerance_rows(result: Result) -> tuple[tuple[str, ...], ...]:
    return next(table.rows for table in result_tables(result) if "declared tolerance" in table.title)


@pytest.mark.parametrize(
    ("psnr_db", "text"),
    [
        (50.896, "50.8"),
        (50.9, "50.9"),
        (40.1, "40.1"),
        (40.04, "40.04"),
        (40.0, "40.00"),
        (39.996, "39.99"),
        (39.96, "39.96"),
    ],
)
def test_digits_agree_with_the_verdict(psnr_db: float, text: str) -> None:
    assert PSNR_40.text(psnr_db) == text
    assert (float(text) >= 40.0) == (psnr_db >= 40.0)


def test_a_picture_just_under_the_limit_reads_as_one() -> None:
    result = result_of(("baseline", "approx_norm"), mse_of(39.9601), others="0" * 32)
    assert result.findings[0] == "approx_norm at 256x256 is 39.96 dB from baseline, under 40"
    assert tolerance_rows(result)[0][-1] == "PSNR 39.96 dB (under 40)"
    assert [*tolerance_lines(result)] == [
        "- approx_norm at 256x256: PSNR against baseline at least 39.96 dB; 40 dB asked for, 9 runs"
    ]


def test_a_tolerance_is_that_of_the_name_although_the_variant_never_ran() -> None:
    plan = make_plan(variants=("baseline", "fused", "approx_norm"))
    session = Session(
        command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=5, warmup=1, order_seed=0, processes=5
    )
    result = build_result(
        make_outline(plan), ENVIRONMENT, [run for run in make_runs(plan) if run.variant != "approx_norm"], session
    )
    titles = [table.title for table in result_tables(result)]
    assert not [title for title in titles if title.endswith("-> approx_norm")]
    assert [(row[1], row[4]) for row in tolerance_rows(result)] == [("approx_norm", "-")] * 6


def test_a_variant_of_another_version_is_what_was_recorded_with_it() -> None:
    result = result_of(("baseline", "approx_norm"), 0.5, others="0" * 32)
    identity = tuple(replace(check, candidate="rough") for check in result.identity)
    renamed = replace(
        result, variants=(result.variants[0], replace(result.variants[1], name="rough")), identity=identity
    )
    assert [row[1] for row in tolerance_rows(renamed)] == ["rough"] * 3


def test_one_variant_alone_is_identical_to_none() -> None:
    result = result_of(("baseline", "approx_norm"), 0.5, others="0" * 32)
    assert verdict_lines(result)[0] == "verdict: pass (exit code 0)"
    text = section(result, Path("reports/a"), Path())
    assert "Pictures:" not in text
    assert "\n\nMeasured on NVIDIA H200" in text


def test_words_are_in_the_number_that_they_count(tmp_path: Path) -> None:
    result = result_of(("baseline", "fused"), 0.5)
    assert verdict_lines(result)[0].endswith("the pictures of 2 variants are identical in every run")
    single = replace(result, identity=tuple(replace(check, num_runs=1) for check in result.identity))
    assert "Pictures: md5-identical in the one run against baseline." in section(single, tmp_path, tmp_path)
