"""Expressions and how often the host waits for each.

``TABLE`` was measured on an NVIDIA H200 with torch 2.11.0+cu130: warnings of ``set_sync_debug_mode``, stream
synchronizations of ``torch.profiler`` and callbacks of ``torch.cuda._gpu_trace`` agreed on every count. ``FROM_SOURCE``
was read off torch's sources and then measured in the same way on an H100.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_REPEATS = 7


@dataclass(frozen=True, slots=True)
class Operands:
    """Floats ``t``, matrix ``x``, mask ``m`` and numbers ``ig`` of its rows; ints ``p``, ``q1``, ``q3``, ``k``, ``s``.

    ``ic`` and ``c`` are on the host, in pageable memory, all else on the device; ``y`` is as ``x[m]``, ``z`` as
    ``x[ig]``.
    """

    d: torch.device
    t: Tensor
    x: Tensor
    m: Tensor
    p: Tensor
    q1: Tensor
    q3: Tensor
    s: Tensor
    k: Tensor
    ig: Tensor
    ic: Tensor
    c: Tensor
    y: Tensor
    z: Tensor


def operands(device: torch.device) -> Operands:
    """Fresh operands; making them waits, so make them before counting."""
    mask = torch.arange(32) % 3 == 0
    return Operands(
        d=device,
        t=torch.linspace(1.0, 0.0, 9).to(device),
        x=torch.arange(256.0).view(32, 8).to(device),
        m=mask.to(device),
        p=(torch.arange(32) % 7).to(device),
        q1=torch.tensor([5]).to(device),
        q3=torch.tensor([3, 9, 4]).to(device),
        s=torch.tensor(3).to(device),
        k=torch.arange(8).to(device),
        ig=torch.tensor([1, 5, 2]).to(device),
        ic=torch.tensor([1, 5, 2]),
        c=torch.arange(6.0),
        y=torch.full((int(mask.sum()), 8), 2.0).to(device),
        z=torch.full((3, 8), 4.0).to(device),
    )


def write(tensor: Tensor, index: object, value: object) -> Tensor:
    tensor[index] = value  # type: ignore[index, assignment]
    return tensor


Expression = Callable[[Operands], object]
Case = tuple[str, Expression, int]

TABLE: list[Case] = [
    ("for a in t", lambda o: list(o.t), 0),
    ("torch.tensor([t[0]] * n, device=d)", lambda o: torch.tensor([o.t[0]] * NUM_REPEATS, device=o.d), NUM_REPEATS + 1),
    ("t[1] > .4 and t[1] <= 1. (both evaluated)", lambda o: bool(o.t[1] > 0.4 and o.t[1] <= 1.0), 2),
    ("t[8] > .4 and t[8] <= 1. (one evaluated)", lambda o: bool(o.t[8] > 0.4) and bool(o.t[8] <= 1.0), 1),
    ("t.unique()", lambda o: o.t.unique(), 1),
    ("sum(q3) + sum(q1)", lambda o: sum(o.q3) + sum(o.q1), 0),
    ("x.new_zeros((sum(q1), 8))", lambda o: o.x.new_zeros((sum(o.q1), 8)), 1),
    ("x.new_zeros(size=[s, 4, 8])", lambda o: o.x.new_zeros(size=[o.s, 4, 8]), 1),  # type: ignore[list-item]
    ("max(q1).item()", lambda o: max(o.q1).item(), 1),
    ("max(q3).item()", lambda o: max(o.q3).item(), 3),
    ("q3.tolist()", lambda o: o.q3.tolist(), 1),
    ("int(q3.sum())", lambda o: int(o.q3.sum()), 1),
    ("i0[0].item()", lambda o: o.p[0].item(), 1),
    ("bool(m.any())", lambda o: bool(o.m.any()), 1),
    ("bool(p[3] < p[2])", lambda o: bool(o.p[3] < o.p[2]), 1),
    ("x[m]", lambda o: o.x[o.m], 1),
    ("x[m] = y", lambda o: write(o.x, o.m, o.y), 1),
    ("(p == 5).nonzero(as_tuple=True)", lambda o: (o.p == 5).nonzero(as_tuple=True), 1),
    ("x[m] = 0", lambda o: write(o.x, o.m, 0), 0),
    ("x[ig]", lambda o: o.x[o.ig], 0),
    ("x[ig] = y", lambda o: write(o.x, o.ig, o.z), 0),
    ("x[ic]", lambda o: o.x[o.ic], 1),
    ("x[ic] = y", lambda o: write(o.x, o.ic, o.z), 1),
    ("k[[1, 2, 3]]", lambda o: o.k[[1, 2, 3]], 1),
    ("m[2:5] = True", lambda o: write(o.m, slice(2, 5), True), 0),
    ("p[2:5] = 7", lambda o: write(o.p, slice(2, 5), 7), 0),
    ("p[9:12] = torch.arange(1, 4, device=d)", lambda o: write(o.p, slice(9, 12), torch.arange(1, 4, device=o.d)), 0),
    ("p[3] = 7", lambda o: write(o.p, 3, 7), 1),
    ("torch.tensor([1, 2], device=d)", lambda o: torch.tensor([1, 2], device=o.d), 1),
    ("c.to(d)", lambda o: o.c.to(o.d), 1),
    ("c[:0].to(d)", lambda o: o.c[:0].to(o.d), 0),
    ("x.cpu()", lambda o: o.x.cpu(), 1),
    ("x.to(torch.uint8).cpu().numpy()", lambda o: o.x.to(torch.uint8).cpu().numpy(), 1),
    ("torch.arange(..., device=d)", lambda o: torch.arange(5, device=o.d), 0),
    ("torch.linspace(..., device=d)", lambda o: torch.linspace(0, 1, 5, device=o.d), 0),
    ("torch.zeros(..., device=d)", lambda o: torch.zeros(3, 4, device=o.d), 0),
    ("torch.cumsum", lambda o: torch.cumsum(o.q3, 0), 0),
    ("F.pad", lambda o: F.pad(o.q3, (1, 0)), 0),
    ("torch.cat", lambda o: torch.cat([o.x, o.x]), 0),
    ("x.split([10, 22])", lambda o: o.x.split([10, 22]), 0),
    ("x - x * t[3]", lambda o: o.x - o.x * o.t[3], 0),
    ("randn_like", lambda o: torch.randn_like(o.x), 0),
    ("x.exponential_()", lambda o: o.x.exponential_(), 0),
    ("F.interpolate", lambda o: F.interpolate(o.x[None, None], scale_factor=2.0, mode="bilinear"), 0),
]

FROM_SOURCE: list[Case] = [
    ("x[ig] = 0", lambda o: write(o.x, o.ig, 0), 1),
    ("x[m] = t[0]", lambda o: write(o.x, o.m, o.t[0]), 1),
    ("x[2, 3] = 1.", lambda o: write(o.x, (2, 3), 1.0), 1),
    ("x[2] = 1.", lambda o: write(o.x, 2, 1.0), 0),
    ("x[s]", lambda o: o.x[o.s], 1),
    ("x[:s]", lambda o: o.x[: o.s], 1),
    ("x[2:5] = host tensor", lambda o: write(o.x, slice(2, 5), torch.ones(3, 8)), 1),
    ("p[3] = p[2]", lambda o: write(o.p, 3, o.p[2]), 0),
    ("torch.equal(x, x + 1)", lambda o: torch.equal(o.x, o.x + 1), 1),
    ("torch.allclose(x, x + 1)", lambda o: torch.allclose(o.x, o.x + 1), 1),
    ("x.masked_select(m[:, None])", lambda o: o.x.masked_select(o.m[:, None]), 1),
    ("m.argwhere()", lambda o: o.m.argwhere(), 1),
    ("torch.where(m)", lambda o: torch.where(o.m), 1),
    ("x.masked_fill(m[:, None], 0.)", lambda o: o.x.masked_fill(o.m[:, None], 0.0), 0),
    ("x.masked_fill(m[:, None], t[0])", lambda o: o.x.masked_fill(o.m[:, None], o.t[0]), 1),
    ("torch.where(m, 1, 0)", lambda o: torch.where(o.m, 1, 0), 0),
    ("x * host scalar tensor", lambda o: o.x * torch.tensor(2.0), 0),
    ("torch.full((), 5., device=d)", lambda o: torch.full((), 5.0, device=o.d), 0),
    ("torch.tensor(5., device=d)", lambda o: torch.tensor(5.0, device=o.d), 1),
    ("torch.tensor([t[0], t[1]])", lambda o: torch.tensor([o.t[0], o.t[1]]), 2),
    ("range(s)", lambda o: list(range(o.s)), 1),
    ("5 in p", lambda o: 5 in o.p, 1),
    ("format(t[0], '.3f')", lambda o: format(o.t[0], ".3f"), 1),
    ("c.pin_memory().to(d, non_blocking=True)", lambda o: o.c.pin_memory().to(o.d, non_blocking=True), 0),
    ("c.pin_memory().to(d)", lambda o: o.c.pin_memory().to(o.d), 1),
    ("x.to('cpu', non_blocking=True)", lambda o: o.x.to("cpu", non_blocking=True), 0),
    (
        "pinned.copy_(x, non_blocking=True)",
        lambda o: torch.empty(32, 8, pin_memory=True).copy_(o.x, non_blocking=True),
        0,
    ),
    ("host.copy_(x)", lambda o: torch.empty(32, 8).copy_(o.x), 1),
    ("x.zero_().copy_(host)", lambda o: o.x.zero_().copy_(torch.ones(32, 8)), 1),
    ("x.repeat_interleave(2, dim=1)", lambda o: o.x.repeat_interleave(2, dim=1), 0),
    ("x.norm(), x.std(), x.argmax()", lambda o: (o.x.norm(), o.x.std(), o.x.argmax()), 0),
    ("x.topk(2), x.sort()", lambda o: (o.x.topk(2), o.x.sort()), 0),
]
