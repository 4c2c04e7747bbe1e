"""Expressions that copy between host and device: direction, number, bytes together, and how many the host waits for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

Copied = tuple[str, int, int | None, int]

EXPRESSIONS: dict[str, list[Copied]] = {
    "x.cpu()": [("download", 1, 32, 1)],
    "x.to('cpu', torch.float64)": [("download", 1, 32, 1)],
    "x.to('cpu', torch.float64, True)": [("download", 1, 64, 0)],
    "h.double().copy_(x)": [("download", 1, 32, 1)],
    "x.copy_(p.double(), True)": [("upload", 1, 64, 0)],
    "x.copy_(p.double())": [("upload", 1, 32, 1)],
    "h.to('cuda')": [("upload", 1, 32, 1)],
    "h.cuda()": [("upload", 1, 32, 1)],
    "h.to('cuda', torch.float16)": [("upload", 1, 16, 1)],
    "p.to('cuda', non_blocking=True)": [("upload", 1, 32, 0)],
    "p.to('cuda', torch.float64, True)": [("upload", 1, 32, 0)],
    "p.cuda(non_blocking=True)": [("upload", 1, 32, 0)],
    "x.to('cpu', non_blocking=True)": [("download", 1, 32, 0)],
    "p.copy_(x, non_blocking=True)": [("download", 1, 32, 0)],
    "x.copy_(p, True)": [("upload", 1, 32, 0)],
    "x.copy_(h.double())": [("upload", 1, 32, 1)],
    "x[::2].copy_(h[::2])": [("upload", 1, 16, 1)],
    "torch._foreach_copy_([x, x], [h, h])": [("upload", 2, 64, 2)],
    "torch._foreach_copy_([p], [x], non_blocking=True)": [("download", 1, 32, 0)],
    "s.item()": [("download", 1, 4, 1)],
    "i.item()": [("download", 1, 8, 1)],
    "bool(s > 0)": [("download", 1, 1, 1)],
    "x.tolist()": [("download", 1, 32, 1)],
    "torch.equal(x, x + 1)": [("download", 1, 1, 1)],
    "torch.tensor([1, 2, 3], device='cuda')": [("upload", 1, 24, 1)],
    "torch.tensor([[True], [False]], device='cuda')": [("upload", 1, 2, 1)],
    "torch.tensor([1, 2], dtype=torch.float16, device='cuda')": [("upload", 1, 4, 1)],
    "torch.tensor(np.ones(5), device='cuda')": [("upload", 1, 40, 1)],
    "torch.tensor([s] * 4, device='cuda')": [("upload", 1, 16, 1), ("download", 4, 16, 4)],
    "x.new_tensor([1, 2, 3])": [("upload", 1, 12, 1)],
    "torch.full((4,), s, device='cuda')": [("download", 1, 4, 1)],
    "x.new_zeros((i, i))": [("download", 2, 16, 2)],
    "x[[1, 2]]": [("upload", 1, 16, 1)],
    "x[[True] * 4 + [False] * 4]": [("upload", 1, 8, 1)],
    "x[i:]": [("download", 1, 8, 1)],
    "x[3] = 7.0": [("upload", 1, 4, 1)],
    "x[[1, 2]] = 0.0": [("upload", 2, 20, 2)],
    "x[1:3] = h[1:3]": [("upload", 1, 8, 1)],
    "h[0:2] = s": [("download", 1, 8, 1)],
    "torch.where(mask, torch.tensor(1.0), x)": [("upload", 1, 4, 1)],
    "x.masked_fill(mask, s)": [("download", 1, 4, 1)],
    "torch.histc(x)": [("download", 2, None, 2)],
    "x.nonzero()": [],
    "x[mask]": [],
    "x.fill_(s)": [],
    "x.fill_(1.0)": [],
    "x.double()": [],
    "x.to('cuda', non_blocking=True)": [],
    "torch.cuda.synchronize()": [],
}


def names() -> dict[str, Any]:
    """What the expressions are made of: of 8 elements on the device, the host and in pinned memory, and scalars."""
    return {
        "torch": torch,
        "np": np,
        "x": torch.arange(8.0, device="cuda"),
        "h": torch.arange(8.0),
        "p": torch.arange(8.0).pin_memory(),
        "s": torch.ones((), device="cuda"),
        "i": torch.ones((), dtype=torch.int64, device="cuda"),
        "mask": torch.arange(8, device="cuda") > 3,
    }
