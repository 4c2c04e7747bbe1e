"""Every mixture of slots gives the baseline's picture; a slot that decides wrongly gives another.

On a CPU that goes for ``close`` as well, whose kernels do not run there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import kernels_baseline
from bagel_perf.records.bagel import LADDER, SLOTS, parse_variant
from bagel_perf.records.errors import UsageError
from bagel_perf.subjects.bagel.loading import RUNGS, bind
from bagel_perf.subjects.bagel.model.contracts import GroupNorm, LayerCache, Slots
from bagel_perf.subjects.bagel.model.layout import PrefillLayout, QueryLayout, Routing

MakeRequest = Callable[..., Any]


def mixtures(base: str, sign: str) -> Iterator[str]:
    """All that are allowed: the loop of ``fused`` refuses to have slots pinned that it does without."""
    for size in range(1, len(SLOTS) + 1):
        for slots in combinations(SLOTS, size):
            name = base + "".join(sign + slot for slot in slots)
            with suppress(UsageError):
                yield parse_variant(name).name


@pytest.mark.parametrize("picture", [True, False], ids=["i2i", "t2i"])
def test_every_mixture_of_baseline_and_best_rung_gives_the_baselines_picture(
    make_request: MakeRequest, picture: bool
) -> None:
    request = make_request(picture=picture)
    reference = request.png(bind("baseline"))
    different = [name for name in mixtures("baseline", "+") if request.png(bind(name)) != reference]
    assert different == []


def test_the_grammar_covers_what_may_be_mixed() -> None:
    plus, minus, close = set(mixtures("baseline", "+")), set(mixtures("sync_free", "-")), set(mixtures("close", "-"))
    assert len(plus) == 2**7 - 1 + 2**4  # with the loop of fused three slots cannot be pinned
    assert len(minus) == 2**7 - 1  # which takes its contexts and norms from the baseline already
    assert len(close) == 2**5 - 1 + 2**8
    assert not [name for name in plus if "norm_activate" in name]
    assert {parse_variant(name).min_psnr_db for name in plus | minus} == {None}


def test_a_rung_changes_what_it_says() -> None:
    names = list(RUNGS)
    assert names == [rung.name for rung in LADDER]
    for below, rung in pairwise(LADDER):
        lower, upper = RUNGS[below.name], RUNGS[rung.name]
        assert rung.changes == {slot for slot in SLOTS if getattr(lower, slot) is not getattr(upper, slot)}


@pytest.mark.parametrize("sign", ["+", "-"])
def test_mixtures_with_the_pull_request_give_the_baselines_picture(make_request: MakeRequest, sign: str) -> None:
    request = make_request()
    reference = request.png(bind("baseline"))
    rung = "fused" if sign == "+" else "pr3987"
    changed = [slot for slot in SLOTS if getattr(RUNGS[rung], slot) is not getattr(RUNGS["baseline"], slot)]
    names = [f"pr3987{sign}{slot}" for slot in changed]
    assert [name for name in names if request.png(bind(name)) != reference] == []


@pytest.mark.parametrize("name", ["close", "close-norm_activate", "close-denoise_loop-merge_kv", "close-pack_contexts"])
def test_without_kernels_mixtures_of_close_give_the_baselines_picture(make_request: MakeRequest, name: str) -> None:
    request = make_request()
    assert request.png(bind(name)) == request.png(bind("baseline"))


@pytest.mark.parametrize("rung", [rung for rung in RUNGS if rung != "baseline"])
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
def test_rungs_agree_with_the_baseline_under_other_guidance(
    make_request: MakeRequest, rung: str, options: dict[str, Any]
) -> None:
    request = make_request(**options)
    assert request.png(RUNGS[rung]) == request.png(RUNGS["baseline"])


@pytest.mark.parametrize("rung", RUNGS)
def test_another_seed_gives_another_picture(make_request: MakeRequest, rung: str) -> None:
    assert make_request(seed=8).png(RUNGS[rung]) != make_request(seed=7).png(RUNGS[rung])


def wrong_weight_set(slots: Slots) -> Slots:
    def route(x: Tensor, routing: Routing, und: Any, gen: Any, *, check_und: bool = False) -> Tensor:
        swapped = (gen, und) if x.dim() == 2 else (und, gen)  # heads are normed in a precision that the rows prescribe
        return slots.route_experts(x, routing, *swapped, check_und=check_und)

    return replace(slots, route_experts=route)


def wrong_position(slots: Slots) -> Slots:
    def adjust(positions_P: Tensor, layout: PrefillLayout) -> tuple[Tensor, Routing]:
        adjusted_P, routing = slots.adjust_positions(positions_P, layout)
        adjusted_P[-1] = adjusted_P[-1] + 1
        return adjusted_P, routing

    return replace(slots, adjust_positions=adjust)


def mask_one_row_off(slots: Slots) -> Slots:
    def adjust(positions_P: Tensor, layout: PrefillLayout) -> tuple[Tensor, Routing]:
        adjusted_P, routing = slots.adjust_positions(positions_P, layout)
        mask = routing.vae_mask_T
        assert mask is not None
        start, stop = layout.latent_spans[0]
        mask[start - 1], mask[stop - 1] = True, False
        return adjusted_P, routing

    return replace(slots, adjust_positions=adjust)


def cache_rows_swapped(slots: Slots) -> Slots:
    def merge(cache: LayerCache, key_TKE: Tensor, value_TKE: Tensor, layout: QueryLayout) -> tuple[Tensor, Tensor]:
        keys, values = slots.merge_kv(cache, key_TKE, value_TKE, layout)
        return keys.index_select(0, torch.arange(keys.shape[0] - 1, -1, -1)), values

    return replace(slots, merge_kv=merge)


def norm_without_activation(slots: Slots) -> Slots:
    def norm_activate(x_1CHW: Tensor, norm: GroupNorm, *, activate: bool) -> Tensor:
        return slots.norm_activate(x_1CHW, norm, activate=False)

    return replace(slots, norm_activate=norm_activate)


@pytest.mark.parametrize(
    "mutate", [wrong_weight_set, wrong_position, mask_one_row_off, cache_rows_swapped, norm_without_activation]
)
def test_a_wrong_decision_in_a_slot_changes_the_picture(
    make_request: MakeRequest, mutate: Callable[[Slots], Slots]
) -> None:
    request = make_request()
    assert request.png(mutate(kernels_baseline.SLOTS)) != request.png(kernels_baseline.SLOTS)
