"""Component ``timestep_schedule`` as upstream: the loop runs over a device tensor: each use of a time waits.

Places name vLLM-Omni's vllm_omni/diffusion/models/bagel/bagel_transformer.py at commit eb4e60ee ("bt").
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
    """Steps from t = 1 to 0; each waits N + 1 times to spread its time, and once or twice to ask for the interval."""
    times = timesteps(num_timesteps, shift, device)
    deltas = times[:-1] - times[1:]
    for i, t in enumerate(times[:-1]):
        t_N = torch.tensor([t] * num_latents, device=device)  # wait: N reads and an upload (bt:2006)
        in_window = False
        if t > interval[0] and t <= interval[1]:  # wait: each comparison made (bt:2007)
            in_window = True
        yield Step(t_N=t_N, dt=deltas[i], in_window=in_window)
