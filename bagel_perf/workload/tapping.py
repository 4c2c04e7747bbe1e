"""Takes the latents of a run on their way, and describes them and the picture: to the bit, and coarsely.

Suffixes: N latent tokens, C latent channels (64), P rows, K heads and E head size of keys and values.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor

from bagel_perf.harness.simulated.tensor import hidden, to_plain
from bagel_perf.model.contracts import Denoising, Slots
from bagel_perf.model.denoise import DenoiseState
from bagel_perf.schema.runs import Output
from bagel_perf.workload.pictures import read_pixels

NUM_PROJECTIONS = 16
BLOCK = 16
"""Pixels a side, one latent token."""


class Tapped:
    """Slots whose denoise loop leaves behind fingerprints of its contexts and latents, and what is not finite."""

    def __init__(self, slots: Slots) -> None:
        self._loop = slots.denoise_loop
        self.slots = dataclasses.replace(slots, denoise_loop=self._tapped)
        self.latents_sha256: str | None = None
        self.contexts_print: tuple[float, ...] = ()
        self.latents_print: tuple[float, ...] = ()
        self.num_not_finite = 0

    def _tapped(self, state: Denoising, slots: Slots) -> Tensor:
        assert isinstance(state, DenoiseState)
        with hidden():
            self.contexts_print = contexts_print([_values(cache.value_PKE) for cache in state.guided.caches])
        latents_NC = self._loop(state, slots)
        with hidden():  # looking at it is not the subject's doing, so it is NumPy that does
            values_NC = np.ascontiguousarray(to_plain(latents_NC).numpy())
        self.latents_sha256 = hashlib.sha256(values_NC.tobytes()).hexdigest()
        self.num_not_finite = int(np.count_nonzero(~np.isfinite(values_NC)))
        self.latents_print = latents_print(values_NC)
        return latents_NC

    def described(self, picture: Output, png: bytes) -> Output:
        """The picture with what is known of its latents, and with all fingerprints."""
        return replace(
            picture,
            latents_sha256=self.latents_sha256,
            contexts_print=self.contexts_print,
            latents_print=self.latents_print,
            pixels_print=pixels_print(read_pixels(png)),
        )


def _values(tensor: Tensor) -> NDArray[np.float32]:
    """A tensor of bf16, which NumPy does not know, without calling torch to compute."""
    bits = to_plain(tensor).view(torch.int16).numpy().astype(np.uint16).astype(np.uint32) << 16
    return bits.view(np.float32)


def contexts_print(layers_PKE: Sequence[NDArray[np.float32]]) -> tuple[float, ...]:
    """Means of the contexts' values over all rows, by layer and channel: rounding averages out, a mistake does not."""
    means = [values.mean(axis=0, dtype=np.float64).reshape(-1) for values in layers_PKE]
    return tuple(round(float(value), 5) for value in np.concatenate(means))


def latents_print(values_NC: NDArray[np.float32]) -> tuple[float, ...]:
    """Projections on fixed random signs: the distance of two is, within a fifth, that of the latents themselves."""
    signs = np.random.RandomState(0).randint(0, 2, (NUM_PROJECTIONS, values_NC.size)) * 2 - 1  # a frozen stream
    projected = signs @ values_NC.reshape(-1).astype(np.float64) / np.sqrt(values_NC.size)
    return tuple(round(float(value), 4) for value in projected)


def pixels_print(pixels_HW3: NDArray[np.uint8]) -> tuple[float, ...]:
    """Means of blocks, in grey levels."""
    height, width, _ = pixels_HW3.shape
    blocks = pixels_HW3.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3)
    return tuple(round(float(value), 2) for value in blocks.mean(axis=(1, 3, 4)).reshape(-1))
