"""Hundreds of expressions and training steps, and how often each waited on a GPU.

``EXPRESSIONS`` are texts over ``o`` (``sync_table_cases.Operands``); ``tests/data/sync_catalogue.json`` says what
measured them.
``STEPS`` are functions that make a step from operands; their first call allocates and is not counted.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sync_table_cases import Operands, write

_DATA = json.loads((Path(__file__).parents[1] / "data" / "sync_catalogue.json").read_text(encoding="utf-8"))

EXPRESSIONS: list[tuple[str, int]] = [(row["expression"], row["waits"]) for row in _DATA["expressions"]]
LIBRARY_WAITS: set[str] = {row["expression"] for row in _DATA["expressions"] if "cupti" in row}
"""CUPTI saw more waits than the callbacks: a library waits inside, and how often is its own affair."""
DEPENDS_ON_DATA = {"torch.linalg.matrix_exp(torch.eye(4, device=o.d))"}
"""The number of waits follows from the values."""

Step = Callable[[], object]


def evaluate(expression: str, o: Operands) -> object:
    """The value of an expression of the catalogue."""
    names = {"torch": torch, "F": F, "nn": nn, "os": os, "o": o, "write": write, "if_else": if_else}
    names |= {"while_loop": while_loop, "event_sync": event_sync}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eval(expression, names)


def if_else(condition: Tensor) -> int:
    return 1 if condition else 0


def while_loop(o: Operands) -> Tensor:
    i = torch.zeros((), device=o.d)
    while i < 3:
        i = i + 1
    return i


def event_sync() -> torch.cuda.Event:
    event = torch.cuda.Event()
    event.record()
    event.synchronize()
    return event


def _training(
    optimizer: Callable[..., torch.optim.Optimizer], *, clip: bool = False, scaled: bool = False, item: bool = False
) -> Callable[[Operands], Step]:
    def make(o: Operands) -> Step:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)).to(o.d)
        steps = optimizer(net.parameters())
        scaler = torch.amp.GradScaler("cuda", enabled=scaled)

        def step() -> object:
            with torch.autocast("cuda", dtype=torch.float16, enabled=scaled):
                loss = F.mse_loss(net(o.x).float(), o.x)
            scaler.scale(loss).backward()
            scaler.unscale_(steps)
            if clip:
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(steps)
            scaler.update()
            steps.zero_grad()
            return loss.item() if item else loss

        return step

    return make


def _adamw(**options: Any) -> Callable[..., torch.optim.Optimizer]:
    return lambda parameters: torch.optim.AdamW(parameters, lr=0.1, **options)


def _backward(forward: Callable[[Operands, Tensor], Tensor]) -> Callable[[Operands], Step]:
    def make(o: Operands) -> Step:
        x = o.x.requires_grad_()
        return lambda: torch.autograd.grad(forward(o, x).sum(), x)

    return make


def _anomaly(o: Operands) -> Step:
    x = o.x.requires_grad_()

    def step() -> object:
        with torch.autograd.detect_anomaly(check_nan=True):
            return torch.autograd.grad((x * 2).sum(), x)

    return step


def _eval(net: Callable[[], nn.Module], *, mask: bool = False) -> Callable[[Operands], Step]:
    """A module that torch runs as one fused operator, unless somebody looks."""

    def make(o: Operands) -> Step:
        torch.manual_seed(0)
        module = net().to(o.d).eval()
        x, hidden = o.x[None], torch.arange(len(o.x), device=o.d)[None] > 2
        inputs = (x, x, x) if isinstance(module, nn.MultiheadAttention) else (x,)

        @torch.no_grad()
        def step() -> object:
            return module(*inputs, **({"src_key_padding_mask": hidden} if mask else {}))

        return step

    return make


def _encoder() -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 2)


STEPS: dict[str, tuple[Callable[[Operands], Step], int]] = {
    "SGD": (_training(lambda parameters: torch.optim.SGD(parameters, lr=0.1)), 0),
    "SGD, momentum": (_training(lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)), 0),
    "AdamW": (_training(_adamw()), 0),
    "AdamW, fused": (_training(_adamw(fused=True)), 0),
    "AdamW, capturable": (_training(_adamw(capturable=True)), 0),
    "AdamW, for-loop": (_training(_adamw(foreach=False)), 0),
    "AdamW, clipped": (_training(_adamw(), clip=True), 0),
    "AdamW, clipped, loss.item()": (_training(_adamw(), clip=True, item=True), 1),
    "AdamW, GradScaler": (_training(_adamw(), scaled=True), 1),
    "AdamW, GradScaler, clipped": (_training(_adamw(), scaled=True, clip=True), 1),
    "RMSprop": (_training(lambda parameters: torch.optim.RMSprop(parameters, lr=0.1)), 0),
    "Adagrad": (_training(lambda parameters: torch.optim.Adagrad(parameters, lr=0.1)), 0),
    "backward of x[m]": (_backward(lambda o, x: x[o.m]), 2),
    "backward of x[ig]": (_backward(lambda o, x: x[o.ig]), 0),
    "backward of index_select": (_backward(lambda o, x: x.index_select(0, o.ig)), 0),
    "backward of masked_fill": (_backward(lambda o, x: x.masked_fill(o.m[:, None], 0)), 0),
    "backward of embedding": (_backward(lambda o, x: F.embedding(o.p, x)), 0),
    "backward of max": (_backward(lambda o, x: x.max()), 0),
    "backward of topk": (_backward(lambda o, x: x.topk(2)[0]), 0),
    "backward of masked_select": (_backward(lambda o, x: x.masked_select(o.m[:, None])), 1),
    "backward of y[m] = x[m]": (_backward(lambda o, x: write(o.x.detach().clone() * 1, o.m, x[o.m])), 4),
    "backward of cumsum": (_backward(lambda o, x: x.cumsum(0)), 0),
    "backward of prod": (_backward(lambda o, x: x.prod()), 1),
    "backward of norm": (_backward(lambda o, x: x.norm()), 0),
    "backward of repeat_interleave": (_backward(lambda o, x: x[:3].repeat_interleave(o.q3, dim=0)), 2),
    "backward of svd": (_backward(lambda o, x: torch.linalg.svdvals(x[:4, :4])), 2),
    "anomaly mode": (_anomaly, 2),
    "TransformerEncoder": (_eval(_encoder), 0),
    "MultiheadAttention": (_eval(lambda: nn.MultiheadAttention(8, 2, batch_first=True)), 0),
}

OPEN_STEPS: dict[str, Callable[[Operands], Step]] = {"TransformerEncoder, padding mask": _eval(_encoder, mask=True)}
"""Steps that the simulated device cannot judge: this one makes a nested tensor."""
