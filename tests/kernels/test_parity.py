"""The simulated device counts exactly what CUDA's callbacks counted on an H200, per stage and component.

The committed results were measured with the released shape. Here branches and tokens are the same and the width is
tiny; attention is replaced by a copy of its queries, because no wait depends on it and it is all of the work. Layers
are as many for the variants that wait in each of them, and four for those that wait for the picture alone, where a wait
in each would be seen as well.

Since the results at 1024, baseline and pr3987 have six more of upstream's waits, which are added to what was measured
there (``ADDED_SINCE``); ``tests/bagel/test_baseline_is_upstream.py`` holds them to upstream's own.

Simulated at 256 alone: at 1024 one variant waits more often, in two components that go by the number of tokens. What
was measured at either size is held to the closed forms, to which ``test_wait_formulas.py`` holds the simulated device.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bagel_perf.records.bagel import BUILT_IN, WAITING, Request
from bagel_perf.records.results import Result, load
from bagel_perf.subjects.bagel.bench import count_stages
from bagel_perf.subjects.bagel.edit import edit_subject, request_inputs
from bagel_perf.subjects.bagel.loading import bind, with_regions
from bagel_perf.subjects.bagel.model.bagel import Bagel
from bagel_perf.subjects.bagel.model.config import preset
from bagel_perf.subjects.bagel.model.preprocess import tokenize
from cheap_model import cheap_model
from wait_formulas import FORMULAS, Sizes, nonzero, sizes_of_edit

REPORTS = Path(__file__).resolve().parents[2] / "reports"
RESULTS = [
    load(REPORTS / name / "result.json")
    for name in ("2026-11-23_h200_252761e", "2026-11-26_h200_5841467-2", "2026-12-01_h200_fc53e68")
]


def edit_of(result: Result, case: str) -> Request:
    """The request that a case of a result stands for; all of these have the default prompt and picture."""
    width, height = map(int, case.split("x"))
    asked = result.subject.asked[case]
    assert asked["task"] == "i2i" and asked["image"] is None
    return Request(width=width, height=height, prompt=str(asked["prompt"]), steps=int(str(asked["steps"])))


IN_AR, IN_DIT = {"adjust_positions": 2}, {"branch_offsets": 4}
ADDED_SINCE = {"ar": IN_AR, "dit": IN_DIT, "e2e": IN_AR | IN_DIT}
"""Waits of baseline and pr3987 in an edit that results before December lack, by stage and component."""


CASES = {
    (variant, int(case.partition("x")[0])): (edit_of(result, case), result)
    for result in RESULTS
    for case in result.cases
    for variant in result.named
}
NUM_LAYERS = 28
SIMULATED = 256
NUM_LAYERS_OF_THE_REST = 4
BITWISE = [built_in.name for built_in in BUILT_IN if built_in.is_bitwise]


@pytest.fixture
def model(variant: str) -> Iterator[Bagel]:
    with cheap_model(NUM_LAYERS if variant in WAITING else NUM_LAYERS_OF_THE_REST) as model:
        yield model


def test_the_variants_that_wait_in_layers_are_those_whose_formula_goes_by_their_number() -> None:
    few, many = (Sizes(layers=layers, latents=256, positions=1, guided=2) for layers in (1, 2))
    assert {name for name in BITWISE if FORMULAS[name](few) != FORMULAS[name](many)} == WAITING


def measured(variant: str, res: int, stage: str) -> dict[str, int]:
    """What CUDA's callbacks counted by component, and the waits that were added since."""
    result = CASES[variant, res][1]
    (cell,) = (
        cell for cell in result.cells if (cell.case, cell.stage, cell.variant) == (f"{res}x{res}", stage, variant)
    )
    assert cell.syncs_by_component is not None and cell.host_syncs == sum(cell.syncs_by_component.values())
    is_older = variant in WAITING and result.created < "2026-12"
    added = ADDED_SINCE[stage] if is_older else {}
    return {name: cell.syncs_by_component.get(name, 0) + added.get(name, 0) for name in cell.syncs_by_component | added}


def test_the_results_are_a_gpus_with_the_released_number_of_layers_and_cover_every_bitwise_variant() -> None:
    for result in RESULTS:
        assert result.environment.device_name == "NVIDIA H200" and result.subject.details["layers"] == NUM_LAYERS
        assert {cell.sync_device for cell in result.cells} == {"cuda"}
    assert set(CASES) == {(built_in, res) for built_in in BITWISE for res in (256, 1024)}


@pytest.mark.parametrize("variant", BITWISE)
def test_simulated_and_measured_counts_are_equal(model: Bagel, variant: str) -> None:
    edit, _ = CASES[variant, SIMULATED]
    inputs = request_inputs(edit, model.config, None, edit.seed)
    counts = count_stages(model, lambda copy: edit_subject(copy, inputs, with_regions(bind(variant))))
    assert counts.device == "simulated"
    for measurement in counts.measurements:
        assert (measurement.syncs_by_component or {}) == measured(variant, SIMULATED, measurement.stage)


@pytest.mark.parametrize(("variant", "res"), CASES)
def test_measured_counts_are_those_of_the_formulas(variant: str, res: int) -> None:
    edit, _ = CASES[variant, res]
    num_text = len(tokenize(edit.prompt, preset("tiny"), None))
    formulas = nonzero(FORMULAS[variant](sizes_of_edit(edit, num_text=num_text, num_layers=NUM_LAYERS)))
    for stage, by_component in formulas.items():
        assert measured(variant, res, stage) == by_component


@pytest.mark.parametrize("stage", ["ar", "dit", "e2e"])
@pytest.mark.parametrize("variant", BITWISE)
def test_only_the_baseline_waits_more_often_for_a_larger_picture(variant: str, stage: str) -> None:
    small, large = (measured(variant, res, stage) for res in (SIMULATED, 1024))
    assert (small == large) == (variant != "baseline")
