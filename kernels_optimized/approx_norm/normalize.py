"""Component ``norm_activate`` by kernels that read each value twice and write it once, rounded to bf16.

Where there is no kernel, operators of PyTorch run, with the bits of the baseline: off CUDA, without Triton, and for
widths that the kernels do not divide evenly.

Suffixes: C channels, H and W rows and columns, 1 for a batch of one.
"""

from __future__ import annotations

import functools
import importlib.util

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model import primitives as reference
from bagel_perf.subjects.bagel.model.contracts import GroupNorm

DTYPES = (torch.bfloat16, torch.float32)
GROUP_WIDTHS = (2, 4, 8, 16, 32, 64, 128)
"""Channels of a group: powers of two, as Triton reshapes, of which a program takes whole groups."""


def norm_activate(x_1CHW: Tensor, norm: GroupNorm, *, activate: bool) -> Tensor:
    """Normed and, with ``activate``, activated: bf16 [1, C, H, W] in the memory format of x; does not wait.

    Without kernels fp32, as ``bagel_perf.subjects.bagel.model.primitives`` gives it.
    """
    if not _has_kernels(x_1CHW, norm.num_groups):
        return reference.norm_activate(x_1CHW, norm, activate=activate)
    from kernels_optimized.approx_norm.kernels import group_norm as group_norm_kernels

    return group_norm_kernels.norm_activate(x_1CHW, norm, activate=activate)


def _has_kernels(x_1CHW: Tensor, num_groups: int) -> bool:
    return x_1CHW.is_cuda and type(x_1CHW) is Tensor and covers(x_1CHW, num_groups) and _has_triton()


def covers(x_1CHW: Tensor, num_groups: int) -> bool:
    """Whether the kernels take a tensor of this shape and dtype."""
    batch, num_channels = x_1CHW.shape[:2]
    has_groups = num_channels % num_groups == 0 and num_channels // num_groups in GROUP_WIDTHS
    is_power_of_two = num_groups.bit_count() == 1
    return batch == 1 and x_1CHW.numel() > 0 and has_groups and is_power_of_two and x_1CHW.dtype in DTYPES


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
