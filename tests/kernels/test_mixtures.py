"""Every mixture of components gives the baseline's picture; a component that decides wrongly gives another.

On a CPU that goes for ``approx_norm`` as well, whose kernels do not run there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import kernels_baseline
from bagel_perf.records.bagel import BUILT_IN, COMPONENTS, parse_variant
from bagel_perf.records.errors import UsageError
from bagel_perf.subjects.bagel.loading import VARIANTS, bind
from bagel_perf.subjects.bagel.model.contracts import Components, GroupNorm, LayerCache
from bagel_perf.subjects.bagel.model.layout import BranchOffsets, Lengths, PrefillLayout, QueryLayout, Routing

MakeRequest = Callable[..., Any]


PREFILLING = frozenset({"encode_picture", "pack_contexts", "adjust_positions", "prefill_layers", "route_experts"})
DENOISING = frozenset(COMPONENTS) - PREFILLING | {"route_experts"}


def mixtures(base: str, sign: str) -> Iterator[str]:
    """All that are allowed: the loop of ``fused`` refuses to have components pinned that it does without."""
    for size in range(1, len(COMPONENTS) + 1):
        for components in combinations(COMPONENTS, size):
            name = base + "".join(sign + component for component in components)
            with suppress(UsageError):
                yield parse_variant(name).name


@pytest.mark.parametrize("picture", [True, False], ids=["i2i", "t2i"])
@pytest.mark.parametrize("of_a_stage", [PREFILLING, DENOISING], ids=["ar", "dit"])
def test_every_mixture_of_baseline_and_best_variant_gives_the_baselines_picture(
    make_request: MakeRequest, of_a_stage: frozenset[str], picture: bool
) -> None:
    request = make_request(picture=picture)
    reference = request.png(bind("baseline"))
    names = [name for name in mixtures("baseline", "+") if set(name.split("+")[1:]) <= of_a_stage]
    assert len(names) > 30
    assert [name for name in names if request.png(bind(name)) != reference] == []


@pytest.mark.parametrize("picture", [True, False], ids=["i2i", "t2i"])
def test_any_mixture_over_both_stages_gives_the_baselines_picture(make_request: MakeRequest, picture: bool) -> None:
    request = make_request(picture=picture)
    reference = request.png(bind("baseline"))
    names = random.Random(22).sample([*mixtures("baseline", "+")], 60)
    assert [name for name in names if request.png(bind(name)) != reference] == []


def test_the_grammar_covers_what_may_be_mixed() -> None:
    plus, minus, close = (
        set(mixtures("baseline", "+")),
        set(mixtures("sync_free", "-")),
        set(mixtures("approx_norm", "-")),
    )
    # With the loop of fused three components cannot be pinned, and with its prefill as well a fourth.
    assert len(plus) == 2**11 - 1 + 2**6 * 3
    assert len(minus) == 2**8 - 1  # which takes four from the baseline already
    assert len(close) == len(plus)
    assert {parse_variant(name).min_psnr_db for name in plus | minus} == {None}


def test_a_variant_changes_what_it_says() -> None:
    names = list(VARIANTS)
    assert names == [built_in.name for built_in in BUILT_IN]
    for below, built_in in pairwise(BUILT_IN):
        lower, upper = VARIANTS[below.name], VARIANTS[built_in.name]
        assert built_in.changes == {
            component for component in COMPONENTS if getattr(lower, component) is not getattr(upper, component)
        }


@pytest.mark.parametrize("sign", ["+", "-"])
def test_mixtures_with_the_pull_request_give_the_baselines_picture(make_request: MakeRequest, sign: str) -> None:
    request = make_request()
    reference = request.png(bind("baseline"))
    built_in = "fused" if sign == "+" else "pr3987"
    changed = [
        component
        for component in COMPONENTS
        if getattr(VARIANTS[built_in], component) is not getattr(VARIANTS["baseline"], component)
    ]
    names = [f"pr3987{sign}{component}" for component in changed]
    assert [name for name in names if request.png(bind(name)) != reference] == []


@pytest.mark.parametrize(
    "name",
    ["approx_norm", "approx_norm-norm_activate", "approx_norm-denoise_loop-merge_kv", "approx_norm-pack_contexts"],
)
def test_without_kernels_mixtures_of_close_give_the_baselines_picture(make_request: MakeRequest, name: str) -> None:
    request = make_request()
    assert request.png(bind(name)) == request.png(bind("baseline"))


@pytest.mark.parametrize("variant", [built_in for built_in in VARIANTS if built_in != "baseline"])
@pytest.mark.parametrize(
    "options",
    [
        {"interval": (0.4, 1.0), "renorm": "global"},
        {"interval": (0.4, 1.0), "renorm": "channel"},
        {"image": 1.0},
        {"text": 1.0},
        {"picture": False, "image": 1.0, "interval": (0.4, 1.0)},
        {"num_timesteps": 2},
    ],
    ids=str,
)
def test_variants_agree_with_the_baseline_under_other_guidance(
    make_request: MakeRequest, variant: str, options: dict[str, Any]
) -> None:
    request = make_request(**options)
    assert request.png(VARIANTS[variant]) == request.png(VARIANTS["baseline"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_another_seed_gives_another_picture(make_request: MakeRequest, variant: str) -> None:
    assert make_request(seed=8).png(VARIANTS[variant]) != make_request(seed=7).png(VARIANTS[variant])


def wrong_weight_set(components: Components) -> Components:
    def route(x: Tensor, routing: Routing, und: Any, gen: Any, *, check_und: bool = False) -> Tensor:
        swapped = (gen, und) if x.dim() == 2 else (und, gen)  # heads are normed in a precision that the rows prescribe
        return components.route_experts(x, routing, *swapped, check_und=check_und)

    return replace(components, route_experts=route)


def wrong_position(components: Components) -> Components:
    def adjust(positions_P: Tensor, layout: PrefillLayout) -> tuple[Tensor, Routing]:
        adjusted_P, routing = components.adjust_positions(positions_P, layout)
        adjusted_P[-1] = adjusted_P[-1] + 1
        return adjusted_P, routing

    return replace(components, adjust_positions=adjust)


def mask_one_row_off(components: Components) -> Components:
    def adjust(positions_P: Tensor, layout: PrefillLayout) -> tuple[Tensor, Routing]:
        adjusted_P, routing = components.adjust_positions(positions_P, layout)
        mask = routing.vae_mask_T
        assert mask is not None
        start, stop = layout.latent_spans[0]
        mask[start - 1], mask[stop - 1] = True, False
        return adjusted_P, routing

    return replace(components, adjust_positions=adjust)


def cache_rows_swapped(components: Components) -> Components:
    def merge(cache: LayerCache, key_TKE: Tensor, value_TKE: Tensor, layout: QueryLayout) -> tuple[Tensor, Tensor]:
        keys, values = components.merge_kv(cache, key_TKE, value_TKE, layout)
        return keys.index_select(0, torch.arange(keys.shape[0] - 1, -1, -1)), values

    return replace(components, merge_kv=merge)


def branch_one_row_off(components: Components) -> Components:
    def branch_offsets(sequence: Lengths, past: Lengths) -> BranchOffsets:
        offsets = components.branch_offsets(sequence, past)
        return replace(offsets, merged=(*offsets.merged[:-1], offsets.merged[-1] - 1))

    return replace(components, branch_offsets=branch_offsets)


def norm_without_activation(components: Components) -> Components:
    def norm_activate(x_1CHW: Tensor, norm: GroupNorm, *, activate: bool) -> Tensor:
        return components.norm_activate(x_1CHW, norm, activate=False)

    return replace(components, norm_activate=norm_activate)


@pytest.mark.parametrize(
    "mutate",
    [
        wrong_weight_set,
        wrong_position,
        mask_one_row_off,
        cache_rows_swapped,
        branch_one_row_off,
        norm_without_activation,
    ],
)
def test_a_wrong_decision_in_a_component_changes_the_picture(
    make_request: MakeRequest, mutate: Callable[[Components], Components]
) -> None:
    request = make_request()
    assert request.png(mutate(kernels_baseline.COMPONENTS)) != request.png(kernels_baseline.COMPONENTS)
