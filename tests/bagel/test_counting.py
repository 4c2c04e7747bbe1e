"""What a kernel asks of torch.cuda itself is counted as well, where there is no GPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bagel_perf.records.bagel import Request
from bagel_perf.subjects.bagel.bench import count_stages
from bagel_perf.subjects.bagel.edit import edit_subject, request_inputs
from bagel_perf.subjects.bagel.loading import bind, with_regions
from bagel_perf.subjects.bagel.model.contracts import Components, Denoising
from cheap_model import cheap_model


@pytest.mark.parametrize(
    "wait",
    [
        lambda: torch.cuda.synchronize(),
        lambda: torch.cuda.current_stream().record_event().synchronize(),
        lambda: torch.cuda.Stream().synchronize(),
    ],
)
def test_an_explicit_synchronization_in_a_component_is_counted(wait: Callable[[], object]) -> None:
    components = bind("sync_free")

    def loop(state: Denoising, components: Components) -> Tensor:
        latents_NC = bind("sync_free").denoise_loop(state, components)
        wait()
        return latents_NC

    request = Request(task="t2i", width=32, height=32, steps=2)
    with cheap_model(1) as model:
        inputs = request_inputs(request, model.config, None, request.seed)
        marked = with_regions(dataclasses.replace(components, denoise_loop=loop))
        counts = count_stages(model, lambda copy: edit_subject(copy, inputs, marked))
    assert [site.kind for site in counts.sites].count("explicit_sync") == 1
