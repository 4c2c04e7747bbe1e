"""Host syncs of every component are exact: closed forms, on the simulated device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from bagel_perf.records.bagel import COMPONENTS, Request, parse_variant
from bagel_perf.records.errors import UsageError
from bagel_perf.subjects.bagel.bench import count_stages
from bagel_perf.subjects.bagel.edit import edit_subject, request_inputs
from bagel_perf.subjects.bagel.loading import bind, with_regions
from bagel_perf.subjects.bagel.model.bagel import Bagel
from cheap_model import cheap_model
from wait_formulas import FORMULAS, Counts, Sizes, baseline, mixture, nonzero, sizes_of_edit

MakeRequest = Callable[..., Any]


@pytest.fixture(scope="module")
def shallow_model() -> Iterator[Bagel]:
    with cheap_model(num_layers=2) as model:
        yield model


@pytest.fixture(scope="module")
def model_of_few_pixels() -> Iterator[Bagel]:
    with cheap_model(num_layers=2, num_levels=1) as model:
        yield model


def measured(model: Bagel, inputs: Any, variant: str) -> Counts:
    counts = count_stages(model, lambda copy: edit_subject(copy, inputs, with_regions(bind(variant))))
    assert counts.device == "simulated"
    by_stage = {m.stage: (m.host_syncs, m.syncs_by_component or {}) for m in counts.measurements}
    for total, by_component in by_stage.values():
        assert total == sum(by_component.values())
    return {
        stage: {component: count for component, count in by_component.items() if count}
        for stage, (_, by_component) in by_stage.items()
    }


SMALL = Sizes(latents=6, positions=48, guided=2)
PACKED_BY_FUSED = 37
"""Positions where the second context that shows the picture runs its 6 latents and their markers alone."""


@pytest.mark.parametrize("variant", FORMULAS)
@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, SMALL),
        ({"image": 1.0}, Sizes(latents=6, positions=48, guided=2, branches=2)),
        ({"text": 1.0}, Sizes(latents=6, positions=48, guided=2, branches=1)),
        ({"interval": (0.5, 1.0), "num_timesteps": 6}, Sizes(latents=6, positions=48, guided=4, plain=1)),
        ({"picture": False}, Sizes(latents=6, positions=10, guided=2, pictures=0, texts=2)),
    ],
    ids=["edit", "two branches", "one branch", "interval", "text to image"],
)
def test_each_component_waits_as_its_formula_says(
    make_request: MakeRequest, variant: str, options: dict[str, Any], sizes: Sizes
) -> None:
    request = make_request(**options)
    assert measured(request.model, request.inputs, variant) == nonzero(FORMULAS[variant](sizes))


def assert_is_as_the_formulas_say(model: Bagel, variant: str, resolution: int) -> None:
    """For a request with as many latent tokens as one of this resolution has under the released autoencoder."""
    side = resolution * model.config.autoencoder.downsample // 8
    inputs = request_inputs(Request(width=side, height=side), model.config, None, seed=42)
    full = Request(width=resolution, height=resolution)
    sizes = sizes_of_edit(full, num_text=len(inputs.prompt_ids), num_layers=2)
    assert inputs.noise_NC.shape[0] == sizes.latents
    assert measured(model, inputs, variant) == nonzero(FORMULAS[variant](sizes))


ALL_SIZES = [(variant, resolution) for variant in FORMULAS for resolution in (256, 1024)]
OF_ALL_LEVELS = [("baseline", 1024), *((variant, 256) for variant in FORMULAS if variant != "baseline")]


@pytest.mark.parametrize(("variant", "resolution"), [each for each in ALL_SIZES if each not in OF_ALL_LEVELS])
def test_at_full_token_counts_the_totals_are_the_issues_formulas(
    model_of_few_pixels: Bagel, variant: str, resolution: int
) -> None:
    assert_is_as_the_formulas_say(model_of_few_pixels, variant, resolution)


@pytest.mark.parametrize(("variant", "resolution"), OF_ALL_LEVELS)
def test_so_they_are_with_all_levels_of_the_autoencoder(shallow_model: Bagel, variant: str, resolution: int) -> None:
    assert_is_as_the_formulas_say(shallow_model, variant, resolution)


def test_a_guided_step_of_the_released_shape_waits_n_plus_229_times() -> None:
    for latents in (256, 4096):
        one, two = (baseline(Sizes(layers=28, latents=latents, positions=1, guided=steps))["dit"] for steps in (1, 2))
        assert sum(two.values()) - sum(one.values()) == latents + 229


def exchanges(built_in: str) -> Iterator[str]:
    """Mixtures of a variant and one component of another."""
    for sign, component in product("+-", COMPONENTS):
        with suppress(UsageError):
            yield parse_variant(f"{built_in}{sign}{component}").name


@pytest.mark.parametrize("picture", [True, False], ids=["i2i", "t2i"])
@pytest.mark.parametrize("built_in", ["baseline", "pr3987", "sync_free", "fused"])
def test_a_mixture_waits_as_the_formulas_of_its_components_say(
    make_request: MakeRequest, built_in: str, picture: bool
) -> None:
    request = make_request(picture=picture)
    sizes = SMALL if picture else Sizes(latents=6, positions=10, guided=2, pictures=0, texts=2)
    names = list(exchanges(built_in))
    assert len(names) >= 6
    for name in names:
        shares_pictures = picture and parse_variant(name).owners[COMPONENTS.index("pack_contexts")] == "fused"
        packed = replace(sizes, positions=PACKED_BY_FUSED) if shares_pictures else sizes
        assert measured(request.model, request.inputs, name) == nonzero(mixture(name, packed)), name
