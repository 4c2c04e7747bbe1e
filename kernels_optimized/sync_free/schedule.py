"""Component ``timestep_schedule`` without waits: a grid on the device for arithmetic, one on the host to decide.

Suffix: N latent tokens.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bagel_perf.subjects.bagel.model.contracts import Step
from bagel_perf.subjects.bagel.model.primitives import timesteps


def timestep_schedule(
    num_timesteps: int, shift: float, interval: tuple[float, float], num_latents: int, device: torch.device
) -> Iterator[Step]:
    """Steps from t = 1 to 0."""
    times = timesteps(num_timesteps, shift, device)
    deltas = times[:-1] - times[1:]
    for i, t in enumerate(timesteps(num_timesteps, shift, torch.device("cpu"))[:-1].tolist()):
        t_N = times[i].repeat(num_latents)
        in_window = interval[0] < t <= interval[1]
        yield Step(t_N=t_N, dt=deltas[i], in_window=in_window)
