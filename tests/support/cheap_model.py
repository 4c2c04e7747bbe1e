"""A tiny BAGEL of few numbers, whose attention does nothing: every wait of a full-size request, in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bagel_perf.subjects.bagel.model.attention import Attention
from bagel_perf.subjects.bagel.model.autoencoder import Conv
from bagel_perf.subjects.bagel.model.bagel import Bagel, build_bagel
from bagel_perf.subjects.bagel.model.config import preset
from bagel_perf.subjects.bagel.model.parameters import map_tensors
from bagel_perf.subjects.bagel.model.weights import RandomSource


class NoAttention(Attention):
    """Gives queries back for an answer: no wait depends on attention, and it is most of the work."""

    def heads_first(self, q_1HQE: Tensor, k_1KSE: Tensor, v_1KSE: Tensor, mask_QS: Tensor | None = None) -> Tensor:
        return q_1HQE.contiguous()


class CentreConv(Conv):
    """Convolves with the centre of its kernel alone: nor does any wait depend on the eight ninths around it."""

    def __call__(self, x_1CHW: Tensor) -> Tensor:
        middle = self.weight.shape[-1] // 2
        return F.conv2d(x_1CHW.to(self.weight.dtype), self.weight[:, :, middle, middle, None, None], self.bias)


def with_centres(module: Any) -> Any:
    """A copy of a tree of dataclasses and tuples with its convolutions replaced."""
    if isinstance(module, Conv):
        return CentreConv(weight=module.weight, bias=module.bias)
    if isinstance(module, tuple):
        return tuple(map(with_centres, module))
    if is_dataclass(module) and not isinstance(module, type):
        return replace(module, **{each.name: with_centres(getattr(module, each.name)) for each in fields(module)})
    return module


@contextmanager
def cheap_model(num_layers: int, num_levels: int = 4) -> Iterator[Bagel]:
    """The tiny preset with so many layers of the decoder, a quarter as wide.

    With one level of the autoencoder a latent token is made of 2 x 2 pixels and not of 16 x 16: a request of 128 has
    the tokens of one of 1024, and a sixty-fourth of its pixels.

    On one thread: thousands of tiny operators make a second one spin, a hundred times longer on a busy CPU. With an
    autoencoder in single precision, because CPUs convolve bf16 many times slower.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = preset("tiny")
    llm = replace(config.llm, num_layers=num_layers, hidden=8, intermediate=8)
    autoencoder = replace(config.autoencoder, channel_multipliers=(1,) * num_levels)
    config = replace(config, llm=llm, vit=replace(config.vit, hidden=8, intermediate=8), autoencoder=autoencoder)
    source = RandomSource(device=torch.device("cpu"), seed=0)
    model = build_bagel(source, source, config, NoAttention(backend="math", on_cuda=False))
    yield replace(model, autoencoder=with_centres(map_tensors(model.autoencoder, Tensor.float)))
    torch.set_num_threads(num_threads)
