"""Programs that are ended by a wait, and where."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bagel_perf.records.syncs import SyncBudgetExceeded
from bagel_perf.syncs import SyncWatch, watch_host_syncs


def raised(program: Callable[[], object], **words: Any) -> tuple[SyncBudgetExceeded, SyncWatch]:
    """What a program is ended by, and the watch that did it."""
    with pytest.raises(SyncBudgetExceeded) as caught, watch_host_syncs("cuda", on_wait="raise", **words) as watch:
        program()
    return caught.value, watch


def end(error: BaseException) -> tuple[str, int]:
    """Function and line at which a traceback ends, counted from that of its ``def``."""
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    return frame.f_code.co_name, line - frame.f_code.co_firstlineno


class ReadsInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grads[0].sum().item()
        return grads[0]
