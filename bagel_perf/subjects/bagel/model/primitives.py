"""What components are made of: GroupNorm with SiLU, the flow-matching time grid, copies that do not make the host wait.

GroupNorm and SiLU are as upstream under autocast: in fp32, each by PyTorch's own operator (ByteDance-Seed/Bagel's
modeling/autoencoder.py).

Suffixes: C channels, H and W rows and columns, 1 for a batch of one.
"""

from __future__ import annotations

import struct

import torch
import torch.nn.functional as F
from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import GroupNorm


def norm_activate(x_1CHW: Tensor, norm: GroupNorm, *, activate: bool) -> Tensor:
    """Normed and, with ``activate``, activated: fp32 [1, C, H, W]; does not wait."""
    normed_1CHW = F.group_norm(x_1CHW.float(), norm.num_groups, norm.weight, norm.bias, norm.eps)
    return F.silu(normed_1CHW, inplace=True) if activate else normed_1CHW


def timesteps(num_timesteps: int, shift: float, device: torch.device) -> Tensor:
    """Times from 1 to 0, fp32 [num_timesteps]: t' = s t / (1 + (s - 1) t) over a linear t (reference/bagel.md D1)."""
    t = torch.linspace(1, 0, num_timesteps, device=device)
    return shift * t / (1 + (shift - 1) * t)


def round_to_fp32(value: float) -> float:
    """The nearest fp32 value: comparing a device tensor with a Python float rounds the float like this."""
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


def upload(host: Tensor, device: torch.device) -> Tensor:
    """A copy of a host tensor on ``device``, through pinned memory.

    A copy from pageable memory makes the host wait for the stream; one from pinned memory is queued like a kernel. The
    caching host allocator keeps the pinned block until the copy has run.
    """
    if device.type == "cpu":
        return host
    return host.pin_memory().to(device, non_blocking=True)
