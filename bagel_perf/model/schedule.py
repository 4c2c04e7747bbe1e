"""The flow-matching time grid."""

from __future__ import annotations

import struct

import torch
from torch import Tensor


def timesteps(num_timesteps: int, shift: float, device: torch.device) -> Tensor:
    """Times from 1 to 0, fp32 [num_timesteps]: t' = s t / (1 + (s - 1) t) over a linear t (reference/bagel.md D1)."""
    t = torch.linspace(1, 0, num_timesteps, device=device)
    return shift * t / (1 + (shift - 1) * t)


def round_to_fp32(value: float) -> float:
    """The nearest fp32 value: comparing a device tensor with a Python float rounds the float like this."""
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded
