"""A tiny BAGEL and a small request, on a plain CPU and on the simulated device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch

from bagel_perf.measure.stages import run_stages
from bagel_perf.subjects.bagel.edit import RequestInputs, edit_subject
from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.bagel import Bagel, build_bagel
from bagel_perf.subjects.bagel.model.config import preset
from bagel_perf.subjects.bagel.model.contracts import Components
from bagel_perf.subjects.bagel.model.denoise import GuidanceScales, Renorm, Sampling
from bagel_perf.subjects.bagel.model.prefill import PictureInput
from bagel_perf.subjects.bagel.model.weights import RandomSource

WIDTH, HEIGHT, NUM_TIMESTEPS = 48, 32, 3
VIT_SIDE = 42


@dataclass(frozen=True)
class SmallRequest:
    """A request small enough to run a hundred times."""

    model: Bagel
    inputs: RequestInputs

    def png(self, components: Components) -> bytes:
        output = run_stages(edit_subject(self.model, self.inputs, components))
        assert isinstance(output, bytes)
        return output


@pytest.fixture(scope="session")
def tiny_model() -> Bagel:
    source = RandomSource(device=torch.device("cpu"), seed=0)
    return build_bagel(source, source, preset("tiny"), Attention(backend="math", on_cuda=False))


@dataclass(frozen=True)
class RequestMaker:
    """Makes small requests that differ in one thing."""

    model: Bagel

    def __call__(
        self,
        *,
        picture: bool = True,
        seed: int = 7,
        text: float = 4.0,
        image: float = 2.0,
        interval: tuple[float, float] = (0.0, 1.0),
        renorm: Renorm = "text_channel",
        num_timesteps: int = NUM_TIMESTEPS,
        prompt_ids: Sequence[int] = (508, 5, 17, 101, 509),
    ) -> SmallRequest:
        generator = torch.Generator().manual_seed(seed)
        grid = (HEIGHT // 16, WIDTH // 16)
        pixels = PictureInput(
            vae_pixels=torch.rand(3, HEIGHT, WIDTH, generator=generator) * 2 - 1,
            vit_pixels=torch.rand(3, VIT_SIDE, VIT_SIDE, generator=generator) * 2 - 1,
            noise=torch.randn(1, 16, HEIGHT // 8, WIDTH // 8, generator=generator),
        )
        scales = GuidanceScales(text_scale=text, image_scale=image, interval=interval, renorm=renorm, renorm_min=0.0)
        inputs = RequestInputs(
            prompt_ids=list(prompt_ids),
            picture=pixels if picture else None,
            noise_NC=torch.randn(grid[0] * grid[1], 64, generator=generator),
            sampling=Sampling(grid=grid, num_timesteps=num_timesteps, shift=3.0, scales=scales),
        )
        return SmallRequest(model=self.model, inputs=inputs)


@pytest.fixture(scope="session")
def make_request(tiny_model: Bagel) -> RequestMaker:
    return RequestMaker(tiny_model)


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield
