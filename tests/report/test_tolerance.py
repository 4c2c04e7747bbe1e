"""A variant with a declared tolerance stands apart from the table of md5s, and fails where it leaves the tolerance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec.structs import replace

from bagel_perf.records.bagel import BUILT_IN
from bagel_perf.records.errors import UsageError
from bagel_perf.records.plans import Plan
from bagel_perf.records.results import Result
from bagel_perf.records.runs import RepeatedRun, Run
from bagel_perf.report.summary import verdict_lines
from bagel_perf.report.tables import result_tables, tolerance_lines
from bagel_perf.subjects.bagel.edit import distance
from bagel_perf.subjects.bagel.png import encode_png
from bagel_perf.verdicts.compare import Session, build_result
from docs_results import section
from scripted import ENVIRONMENT, make_outline, make_plan, make_run, make_runs

TOLERANT = [built_in.name for built_in in BUILT_IN if built_in.min_psnr_db is not None]
NAMED = ("baseline", "fused", "approx_norm")
PLAN = make_plan(variants=NAMED)


def result_with(mse: float | None, plan: Plan = PLAN) -> Result:
    """A comparison in which approx_norm gives other pictures, this far from the baseline's."""

    def drawn(run: Run) -> Run:
        if run.variant != "approx_norm":
            return run
        picture = replace(run.output, md5=run.output.md5[::-1], sha256=run.output.sha256[::-1])
        return replace(run, output=picture, distance=mse)

    session = Session(
        command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=6, warmup=1, order_seed=0, processes=6
    )
    return build_result(make_outline(plan), ENVIRONMENT, [drawn(run) for run in make_runs(plan, 6)], session)


def test_another_picture_within_the_tolerance_passes_and_is_timed() -> None:
    result = result_with(0.5)
    assert (result.verdict, result.exit_code) == ("pass", 0)
    check = next(check for check in result.identity if check.candidate == "approx_norm")
    assert not check.identical and check.is_ok
    assert check.distance == pytest.approx(10 * math.log10(255**2 / 0.5))
    assert any(delta.candidate == "approx_norm" for delta in result.deltas)
    assert Result.from_json(result.to_json()) == result


@pytest.mark.parametrize("mse", [6.6, 255.0**2, None])
def test_a_picture_beyond_the_tolerance_or_not_held_to_it_has_no_latency(mse: float | None) -> None:
    result = result_with(mse)
    assert result.exit_code == 3
    assert result.findings[0].startswith("approx_norm at 256x256 is ") and result.findings[0].endswith(
        " from baseline, under 40"
    )
    assert not any(cell.latency_ms for cell in result.cells if cell.variant == "approx_norm")


def test_a_tolerance_is_never_in_a_table_of_identical_pictures() -> None:
    result = result_with(0.5)
    tables = {table.title: table for table in result_tables(result)}
    assert [row[1] for row in tables["Pictures"].rows] == ["baseline", "fused"]
    assert not [title for title in tables if title.endswith("-> approx_norm")]
    apart = next(table for title, table in tables.items() if title.endswith("declared tolerance at 256x256"))
    assert [(*row[:3], row[-1]) for row in apart.rows] == [
        (stage, "approx_norm", against, "PSNR 51.1 dB") for stage in ("AR", "DiT", "e2e") for against in NAMED[:2]
    ]
    head, line, *_ = verdict_lines(result)
    assert head.endswith("the pictures of 2 variants are identical in every run")
    assert line == "- approx_norm at 256x256: PSNR against baseline at least 51.1 dB; 40 dB asked for, 9 runs"


def test_the_readme_counts_identical_runs_of_bitwise_variants_alone(tmp_path: object) -> None:
    from pathlib import Path

    text = section(result_with(0.5), Path("reports/a"), Path())
    assert "Pictures: md5-identical in all 9 runs against baseline." in text
    assert "declared tolerance" in text and "| PSNR 51.1 dB |" in text


def test_the_same_picture_within_a_tolerance_is_called_identical() -> None:
    session = Session(
        command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=6, warmup=1, order_seed=0, processes=6
    )
    runs = [replace(run, distance=0.0) if run.variant == "approx_norm" else run for run in make_runs(PLAN, 6)]
    lines = [*tolerance_lines(build_result(make_outline(PLAN), ENVIRONMENT, runs, session))]
    assert lines == ["- approx_norm at 256x256: picture identical to baseline's; 40 dB asked for, 9 runs"]


def test_the_mean_squared_error_is_of_grey_levels() -> None:
    black = np.zeros((4, 5, 3), dtype=np.uint8)
    other = black.copy()
    other[0, 0, 0] = 60
    assert distance(encode_png(other), encode_png(black)).raw == 60**2 / 60
    assert distance(encode_png(black), encode_png(black)).raw == 0.0


def test_a_pixel_differs_if_any_of_its_colors_does() -> None:
    black = np.zeros((4, 5, 3), dtype=np.uint8)
    other = black.copy()
    other[0, 0] = 60, 1, 0
    other[3, 4, 2] = 1
    assert distance(encode_png(other), encode_png(black)).num_differing == 2


def test_the_worst_run_says_how_many_pixels_differ() -> None:
    session = Session(
        command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=6, warmup=1, order_seed=0, processes=6
    )
    close = iter(range(100))
    runs = [
        replace(run, distance=0.5, num_differing=next(close)) if run.variant == "approx_norm" else run
        for run in make_runs(PLAN, 6)
    ]
    (line,) = tolerance_lines(build_result(make_outline(PLAN), ENVIRONMENT, runs, session))
    number = next(close) - 1
    assert line.endswith(f"at least 51.1 dB, at most {number} differing pixels; 40 dB asked for, 9 runs")


def test_no_more_pixels_differ_than_there_are() -> None:
    run = make_run(RepeatedRun, "approx_norm", PLAN.requests[0])
    for number in (-1, run.output.num_values + 1):
        with pytest.raises(UsageError, match="more values differ"):
            replace(run, num_differing=number)


def test_a_run_has_no_negative_and_no_undefined_difference() -> None:
    for mse in (-1.0, np.nan):
        with pytest.raises(UsageError, match="a distance is not 0 or more"):
            replace(make_run(RepeatedRun, "approx_norm", PLAN.requests[0]), distance=mse)
