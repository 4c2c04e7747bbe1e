"""The modes in which a program's calls reach torch, which decides what of them an observer sees."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch

_CONTEXTS: dict[str, Callable[[], Any]] = {
    "autograd": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "compiled": contextlib.nullcontext,
}
MODES = tuple(_CONTEXTS)


def fits(mode: str, expression: str) -> bool:
    """Whether an expression runs in a mode: one that asks for gradients needs autograd."""
    asks = ".backward()" in expression or "torch.autograd.grad(" in expression
    return not asks or mode in ("autograd", "compiled")


def in_mode(mode: str, run: Callable[[], Any]) -> Any:
    """What ``run`` gives in a mode; "compiled" is inside a function under ``torch.compile``."""

    def whole() -> Any:
        return run()

    function = torch.compile(whole) if mode == "compiled" else whole
    with _CONTEXTS[mode]():
        return function()
