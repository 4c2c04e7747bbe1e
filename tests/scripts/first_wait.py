"""Ends at its first wait, with the stack of that line: ``python tests/scripts/first_wait.py`` on a GPU, or without one
``bagel-perf syncs -- python tests/scripts/first_wait.py``."""

from __future__ import annotations

import torch
from torch import Tensor

from bagel_perf.syncs import region, watch_host_syncs


def step(x: Tensor) -> Tensor:
    """Waits to decide."""
    y = x * 2
    if y.max() > 4:
        return y.clamp(max=4)
    return y


def main() -> None:
    """Three steps that may not wait."""
    x = torch.ones(8, device="cuda")
    with watch_host_syncs("cuda", budgets={"step": 0}, on_wait="raise"):
        for _ in range(3):
            with region("step"):
                x = step(x)


if __name__ == "__main__":
    main()
