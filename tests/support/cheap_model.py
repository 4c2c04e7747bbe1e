"""A tiny BAGEL of few numbers, whose attention does nothing: every wait of a full-size request, in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from bagel_perf.model.attention import Attention
from bagel_perf.model.bagel import Bagel, build_bagel
from bagel_perf.model.config import preset
from bagel_perf.model.parameters import map_tensors
from bagel_perf.model.weights import RandomSource


class NoAttention(Attention):
    """Gives queries back for an answer: no wait depends on attention, and it is most of the work."""

    def heads_first(self, q_1HQE: Tensor, k_1KSE: Tensor, v_1KSE: Tensor, mask_QS: Tensor | None = None) -> Tensor:
        return q_1HQE.contiguous()


@contextmanager
def cheap_model(num_layers: int) -> Iterator[Bagel]:
    """The tiny preset with so many layers of the decoder, a quarter as wide.

    On one thread: thousands of tiny operators make a second one spin, a hundred times longer on a busy CPU. With an
    autoencoder in single precision, because CPUs convolve bf16 many times slower.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = preset("tiny")
    llm = replace(config.llm, num_layers=num_layers, hidden=8, intermediate=8)
    config = replace(config, llm=llm, vit=replace(config.vit, hidden=8, intermediate=8))
    source = RandomSource(device=torch.device("cpu"), seed=0)
    model = build_bagel(source, source, config, NoAttention(backend="math", on_cuda=False))
    yield replace(model, autoencoder=map_tensors(model.autoencoder, Tensor.float))
    torch.set_num_threads(num_threads)
