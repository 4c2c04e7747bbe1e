"""A floor does not depend on what else is measured beside it, or in which order."""

from __future__ import annotations

import pytest
import torch
from msgspec.structs import replace

from bagel_perf.measure.stages import run_stages
from bagel_perf.records.bagel import Request
from bagel_perf.records.results import StageFloor
from bagel_perf.subjects.bagel import floors
from bagel_perf.subjects.bagel.edit import edit_subject, request_inputs
from bagel_perf.subjects.bagel.loading import bind
from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.bagel import Bagel, build_bagel
from bagel_perf.subjects.bagel.model.config import preset
from bagel_perf.subjects.bagel.model.weights import RandomSource

SMALL, LARGE = (Request(width=side, height=side, steps=2) for side in (48, 96))


@pytest.fixture(scope="module")
def model() -> Bagel:
    source = RandomSource(device=torch.device("cpu"), seed=0)
    return build_bagel(source, source, preset("tiny"), Attention(backend="math", on_cuda=False))


@pytest.fixture(autouse=True)
def rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows reach a higher rate, as on a GPU."""
    monkeypatch.setattr(floors, "gemm_us", lambda rows, num_in, num_out, device: 1 + rows**0.5 * num_in * num_out / 1e6)
    monkeypatch.setattr(floors, "attention_us", lambda attend, shapes, device: shapes[0][0] * shapes[1][0] / 1e3)
    monkeypatch.setattr(floors, "copy_tbps", lambda device: 3.0)
    monkeypatch.setattr(floors, "launch_us", lambda device: 5.0)


def floors_of(model: Bagel, *requests: Request) -> dict[tuple[str, str], StageFloor]:
    """Without the PNG, whose time is that of this machine."""
    proven = []
    for request in requests:
        inputs = request_inputs(request, model.config, None, request.seed)
        proven.append((request, inputs, run_stages(edit_subject(model, inputs, bind("baseline")))))
    _, found = floors.measure_floors(model, proven)
    return {
        (floor.case, floor.stage): replace(
            floor, components=tuple(part for part in floor.components if part.name != "PNG (host)")
        )
        for floor in found
    }


def test_the_order_of_requests_changes_no_floor(model: Bagel) -> None:
    there, back = floors_of(model, SMALL, LARGE), floors_of(model, LARGE, SMALL)
    assert there.keys() == {(case, stage) for case in ("48x48", "96x96") for stage in ("ar", "dit")}
    for place, floor in there.items():
        for ours, theirs in zip(floor.components, back[place].components, strict=True):
            assert ours.name == theirs.name
            assert ours.floor_ms == pytest.approx(theirs.floor_ms, rel=1e-12)


def test_convolutions_are_priced_at_one_rate_in_both_stages(model: Bagel) -> None:
    rates = {
        part.flops / part.floor_ms
        for floor in floors_of(model, SMALL, LARGE).values()
        for part in floor.components
        if part.name in ("autoencoder", "ViT") and part.flops
    }
    assert max(rates) == pytest.approx(min(rates), rel=1e-12)


def test_what_was_not_counted_is_not_nought(model: Bagel) -> None:
    parts = {part.name: part for part in floors_of(model, SMALL)["48x48", "dit"].components}
    assert parts["attention"].bytes is None and parts["attention"].flops
    assert parts["pointwise"].flops is None and parts["pointwise"].bytes
