"""The first screen names one line to look at: what cost the GPU most where that was profiled, else what waits most."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.records.ablations import Ablation, ComponentSaving, Saving
from bagel_perf.records.results import load
from bagel_perf.records.syncs import SavingCheck, SyncReport
from bagel_perf.report.html.content import Culprit, TableBlock
from bagel_perf.report.html.culprit import culprit_of
from bagel_perf.report.html.inputs import read_inputs
from bagel_perf.report.html.sites import sites_section
from gated_results import make_result

REPORTS = Path(__file__).resolve().parents[3] / "reports"
FOLDER = REPORTS / "2026-11-27_h200_f8d4ee8"
RESULT = load(FOLDER / "result.json")
SAVED = Saving(ms=250.0, ci_ms=(200.0, 300.5), num_rounds=6, num_processes=6)


@pytest.fixture(scope="module")
def reports() -> tuple[SyncReport, ...]:
    names = ("fused-256", "baseline-256")
    return read_inputs([FOLDER, *(REPORTS / "timelines-h200" / f"{name}.json.gz" for name in names)]).profiles


def culprit(result: object = RESULT, reports: object = ()) -> Culprit:
    found = culprit_of(result, reports)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_the_most_frequent_line_of_the_first_variant_is_named_with_what_to_write_instead() -> None:
    found = culprit()
    assert found.title == "The line where baseline waits most often at 1024 \u00d7 1024"
    assert found.place.startswith("kernels_baseline/schedule.py:")
    assert found.text == "57,344 waits in one picture, each of them a list of device scalars."
    assert found.instead.startswith("t.repeat(n)")


def test_of_its_profiled_run_the_most_costly_one_is_with_the_saving_that_is_predicted(
    reports: tuple[SyncReport, ...],
) -> None:
    found = culprit(RESULT, reports)
    assert found.title == "The wait that costs baseline most at 256 \u00d7 256"
    assert (found.place, found.code) == ("kernels_baseline/positions.py:19", "positions_P[i] < positions_P[i - 1]")
    saving = "Taking them out should save 105.7 to 293.6 ms a picture, as a profiled run predicts."
    assert found.text == f"10,333 waits in one picture, each of them a scalar read. {saving}"


def test_it_leads_to_its_row(reports: tuple[SyncReport, ...]) -> None:
    for given in ((), reports):
        found = culprit(RESULT, given)
        tables = [block for block in sites_section(RESULT, given).blocks if isinstance(block, TableBlock)]
        folded = [inner for block in sites_section(RESULT, given).blocks for inner in getattr(block, "blocks", ())]
        rows = {
            row_id: row
            for block in (*tables, *folded)
            for row_id, row in zip(block.row_ids, block.table.rows, strict=True)
        }
        assert rows[found.href][1] == found.place


def test_what_taking_it_out_gave_is_told_where_it_was_measured_by_itself(reports: tuple[SyncReport, ...]) -> None:
    component = ComponentSaving(component="adjust_positions", alone=SAVED, last=None, apart=None, swallowed=False)
    ablation = Ablation(
        case="256x256",
        stage="e2e",
        reference="baseline",
        variant="fused",
        total=SAVED,
        components=(component,),
        rest=None,
    )
    measured = "Measured: 250.0 ms less (200.0 to 300.5), with adjust_positions alone taken from fused."
    assert culprit(replace(RESULT, ablations=(ablation,)), reports).text.endswith(measured)
    assert "Measured" not in culprit(replace(RESULT, ablations=(replace(ablation, case="1024x1024"),)), reports).text


def test_a_saving_that_was_put_to_the_test_is_told(reports: tuple[SyncReport, ...]) -> None:
    check = SavingCheck(
        component="adjust_positions",
        reference="baseline",
        mixture="baseline+adjust_positions",
        stage="ar",
        num_pairs=8,
        predicted_ms=(104.0, 310.0),
        measured_ms=250.0,
        measured_ci_ms=None,
        agrees=None,
    )
    found = culprit(RESULT, [replace(report, saving_check=check) for report in reports])
    assert found.text.endswith("Measured: 250.0 ms less, with adjust_positions taken out in baseline+adjust_positions.")


def test_a_profile_that_is_not_of_the_result_blames_nobody(reports: tuple[SyncReport, ...]) -> None:
    foreign = [replace(reports[1], subject="baseline at 512x512")]
    assert culprit(RESULT, foreign) == culprit()
    other = replace(RESULT, environment=replace(RESULT.environment, device_name="NVIDIA H100"))
    assert culprit(other, reports) == culprit()


def test_a_run_that_lost_nothing_is_not_blamed(reports: tuple[SyncReport, ...]) -> None:
    sites = tuple(replace(site, lost_gpu_ms=None, predicted_saving_ms=None) for site in reports[1].sites)
    assert culprit(RESULT, [replace(reports[1], sites=sites)]) == culprit()
    assert culprit(RESULT, [replace(reports[1], sites=(), host_syncs=0)]) == culprit()


def test_without_sites_nobody_is_blamed() -> None:
    assert culprit_of(make_result({"sync_free": {}}), ()) is None


def test_a_wait_that_the_best_variant_keeps_is_passed_over_and_ties_are_told() -> None:
    result = load(FOLDER.parent / "flux-h200" / "result.json")
    culprit = culprit_of(result, ())
    assert culprit is not None
    assert culprit.title == "The line where released waits most often at 512, of those that captured lacks"
    assert (
        culprit.place == "diffusers/pipelines/flux/pipeline_flux.py:387"
        and "2 more lines wait as often." in culprit.text
    )
