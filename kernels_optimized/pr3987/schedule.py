"""Component ``timestep_schedule`` of pull request 3987: times go to the host once, so comparisons are free.

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
    """Steps from t = 1 to 0; waits once, and once per step to upload the spread time."""
    times = timesteps(num_timesteps, shift, device)
    deltas = times[:-1] - times[1:]
    for i, t in enumerate(times[:-1].tolist()):  # wait: one for all steps
        t_N = torch.tensor([t] * num_latents, device=device)  # wait: an upload from pageable memory
        in_window = interval[0] < t <= interval[1]
        yield Step(t_N=t_N, dt=deltas[i], in_window=in_window)
