"""Variants that record their steps keep their promises from request to request, and from shape to shape."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import kernels_baseline
from bagel_perf.simulated import SimulatedDevice
from bagel_perf.subjects.bagel.edit import edit_subject
from bagel_perf.subjects.bagel.loading import VARIANTS
from bagel_perf.subjects.bagel.model.contracts import Components
from bagel_perf.subjects.bagel.model.denoise import DenoiseState, prepare
from bagel_perf.subjects.bagel.model.layout import Parts
from bagel_perf.subjects.bagel.model.packing import edit_parts, text_parts
from bagel_perf.subjects.bagel.model.parameters import map_tensors
from bagel_perf.subjects.bagel.model.prefill import prefill
from bagel_perf.syncs.captures import CaptureRefused
from kernels_optimized.captured.loop import MAX_SHAPES, CapturedLoop, MakeStep
from kernels_optimized.captured.step import ComponentStep
from kernels_optimized.fused import contexts
from kernels_optimized.fused.step import FusedStep

MakeRequest = Callable[..., Any]
LOOPS: dict[str, MakeStep] = {"captured": ComponentStep, "fused": FusedStep}
SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"picture": False},
    {"interval": (0.5, 1.0), "num_timesteps": 6},
    {"image": 1.0},
    {"text": 1.0},
)
LENGTHENED = [508, *range(5, 27), 509]
"""As many tokens as the rows of an edit's first context, so that a shape is shared by requests of other positions."""


@pytest.mark.parametrize("variant", LOOPS)
def test_every_replay_gives_the_baselines_picture_also_after_other_shapes_and_back(
    make_request: MakeRequest, variant: str
) -> None:
    loop = CapturedLoop(LOOPS[variant])
    components = replace(VARIANTS[variant], denoise_loop=loop)
    for options in (*SHAPES, *SHAPES[:2]):
        for seed in (7, 8, 7):
            request = make_request(seed=seed, **options)
            assert request.png(components) == request.png(kernels_baseline.COMPONENTS)
    assert len(loop._shapes) == MAX_SHAPES < len(SHAPES)


def test_variants_share_what_records_the_same_step(make_request: MakeRequest) -> None:
    """Mixtures would otherwise push each other out, and record in timed runs."""
    request = make_request()
    reference = request.png(kernels_baseline.COMPONENTS)
    for built_in, exchanged, num_shapes in (
        ("fused", ("adjust_positions", "route_experts", "timestep_schedule"), 1),
        ("captured", ("adjust_positions", "timestep_schedule"), 1),
        ("captured", ("route_experts",), 2),
    ):
        loop = VARIANTS[built_in].denoise_loop
        assert isinstance(loop, CapturedLoop)
        own = CapturedLoop(loop._make_step, loop._recorded_components)
        components = replace(VARIANTS[built_in], denoise_loop=own)
        mixed = [replace(components, **{component: getattr(VARIANTS["pr3987"], component)}) for component in exchanged]
        assert {request.png(each) for each in (components, *mixed)} == {reference}
        assert len(own._shapes) == num_shapes


@pytest.mark.parametrize("variant", LOOPS)
def test_a_result_is_not_overwritten_by_the_next_request(make_request: MakeRequest, variant: str) -> None:
    components = replace(VARIANTS[variant], denoise_loop=CapturedLoop(LOOPS[variant]))
    latents, copies = [], []
    for seed in (7, 8):
        latents.append(components.denoise_loop(_state(make_request(seed=seed), components), components))
        copies.append(latents[-1].clone())
    assert torch.equal(latents[0], copies[0]) and not torch.equal(latents[0], latents[1])


@pytest.mark.parametrize("variant", LOOPS)
def test_a_request_is_not_overwritten_by_the_next_request(make_request: MakeRequest, variant: str) -> None:
    """A context may serve several pictures: the first of a shape is drawn again after another."""
    components = replace(VARIANTS[variant], denoise_loop=CapturedLoop(LOOPS[variant]))
    first, other = (
        _state(make_request(prompt_ids=ids), components) for ids in ([508, 5, 6, 7, 509], [508, 9, 8, 4, 509])
    )
    kept = [cache.key_PKE.clone() for cache in first.guided.caches]
    latents = [components.denoise_loop(state, components) for state in (first, other, first)]
    assert torch.equal(latents[0], latents[2]) and not torch.equal(latents[0], latents[1])
    assert all(torch.equal(cache.key_PKE, key) for cache, key in zip(first.guided.caches, kept, strict=True))


@pytest.mark.parametrize("variant", LOOPS)
def test_requests_of_one_shape_may_have_other_positions(make_request: MakeRequest, variant: str) -> None:
    """A picture takes one position and a text as many as it has tokens: rotary tables belong to a request."""
    loop = CapturedLoop(LOOPS[variant])
    components = replace(VARIANTS[variant], denoise_loop=loop)
    edit, long = make_request(text=1.0), make_request(text=1.0, picture=False, prompt_ids=LENGTHENED)
    for request in (edit, long, edit):
        assert request.png(components) == request.png(kernels_baseline.COMPONENTS)
    assert len(loop._shapes) == 1


@pytest.mark.parametrize("variant", LOOPS)
def test_a_shape_that_goes_takes_its_memory_along(make_request: MakeRequest, variant: str) -> None:
    loop = CapturedLoop(LOOPS[variant])
    components = replace(VARIANTS[variant], denoise_loop=loop)
    make_request().png(components)
    gone = [weakref.ref(shape.step.latents_NC) for shape in loop._shapes.values()]
    assert gone and all(ref() is not None for ref in gone)
    gc.disable()  # memory of a GPU does not make the collector run
    try:
        loop.forget()
        assert all(ref() is None for ref in gone)
    finally:
        gc.enable()
    assert make_request().png(components) == make_request().png(kernels_baseline.COMPONENTS)


def _state(request: Any, components: Components) -> DenoiseState:
    inputs = request.inputs
    cache = prefill(request.model, inputs.prompt_ids, inputs.picture, components)
    return prepare(request.model, cache, inputs.noise_NC, inputs.sampling, components)


def test_a_component_that_waits_is_refused_with_its_line_while_it_is_recorded(make_request: MakeRequest) -> None:
    request = make_request()
    components = replace(
        VARIANTS["captured"], merge_kv=kernels_baseline.COMPONENTS.merge_kv, denoise_loop=CapturedLoop(ComponentStep)
    )
    with SimulatedDevice() as device:
        model = map_tensors(request.model, device.wrap)
        subject = edit_subject(model, request.inputs, components)
        cache = subject.stages[0].run(None)
        with pytest.raises(CaptureRefused, match=r"tensor as size at kernels_baseline/merge\.py:\d+"):
            subject.stages[1].run(cache)


@pytest.mark.parametrize(
    ("parts", "num_rows", "spans"),
    [
        (edit_parts(8, 4096, 4900), 9016, ((0, 9008), (0, 9000), (9008, 9016))),
        (edit_parts(8, 256, 4900), 5434, ((0, 5168), (5168, 5426), (258, 5160), (5426, 5434))),
        (text_parts(8), 16, ((0, 8), (8, 16))),
    ],
    ids=["many latents", "few latents", "text"],
)
def test_what_two_contexts_begin_with_is_prefilled_once(
    parts: Parts, num_rows: int, spans: tuple[tuple[int, int], ...]
) -> None:
    packing = contexts.pack_contexts(parts, list(range(8)), torch.device("cpu"))
    assert packing.layout.num_rows == num_rows
    assert packing.cache_spans == spans
    assert [context.length for context in packing.contexts] == [sum(n for _, n in runs) for _, runs in parts]
    assert sum(stop - start for start, stop in spans) == sum(context.length for context in packing.contexts)


@pytest.mark.parametrize("least", [0, 10**6])
def test_shared_or_not_the_picture_is_the_baselines(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    monkeypatch.setattr(contexts, "MIN_SHARED_LATENTS", least)
    request = make_request()
    assert request.png(VARIANTS["fused"]) == request.png(kernels_baseline.COMPONENTS)
