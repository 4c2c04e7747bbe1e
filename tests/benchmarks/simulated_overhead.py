"""What the simulated device costs: the same models on the plain CPU and on it, in turns, by the time of the CPU.

``simulated_overhead.py [OUT.json]``: transformers of several sizes, an evaluation under inference mode and a step of
training each, and a loop of small calls. Prints the median of the ratios of pairs, one thread, with the smallest and
the largest. Needs no GPU.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import watch_host_syncs

PAIRS = 7
SIZES = {"64 wide, 2 layers, 16 tokens": (64, 2, 16), "256 wide, 4 layers, 64 tokens": (256, 4, 64)}
LARGER = {"1024 wide, 4 layers, 256 tokens": (1024, 4, 256)}
"""Width, layers, tokens."""

Work = Callable[[], object]


class Block(nn.Module):
    """One layer of a decoder, written as models of transformers are: in small calls, without fused modules."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Of [batch, tokens, width] the same shape."""
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, tokens, 3, 4, width // 4).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        up: Tensor = self.up(self.norm2(x))
        result: Tensor = x + self.down(up * torch.sigmoid(1.702 * up))
        return result


def works(device: str, size: tuple[int, int, int]) -> dict[str, Work]:
    """What is timed, by name."""
    width, layers, tokens = size
    torch.manual_seed(0)
    model = nn.Sequential(*(Block(width) for _ in range(layers))).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(1, tokens, width).to(device)

    def evaluate() -> None:
        with torch.inference_mode():
            model(x)

    def train() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return {"evaluation": evaluate, "training": train}


def small_calls(device: str) -> dict[str, Work]:
    """Calls on a handful of elements, where nothing but the call counts."""
    x, mask = torch.rand(8, 8).to(device), (torch.arange(8) % 2 == 0).to(device)

    def calls() -> None:
        for _ in range(50):
            y = (x + 1) * x
            y[mask].sum().item()
            y[:, 2:4].softmax(-1).argmax(-1)

    return {"small calls": calls}


def cpu_ms(work: Work, repeats: int = 1) -> float:
    """Time of the CPU that a call takes, a mean of ``repeats``."""
    begun_ns = time.process_time_ns()
    for _ in range(repeats):
        work()
    return (time.process_time_ns() - begun_ns) / repeats / 1e6


def ratios(make: Callable[[str], dict[str, Work]]) -> dict[str, dict[str, Any]]:
    """Of each work the ratio of pairs, and the milliseconds of either side."""
    found = {}
    for name, plain in make("cpu").items():
        plain()
        repeats = max(1, int(20 / max(cpu_ms(plain), 0.1)))
        times: dict[str, list[float]] = {"plain": [], "simulated": []}
        for _ in range(PAIRS):
            times["plain"].append(cpu_ms(plain, repeats))
            with SimulatedCuda(), watch_host_syncs("cuda"):
                simulated = make("cuda")[name]
                simulated()
                times["simulated"].append(cpu_ms(simulated, repeats))
        found[name] = _summary(times)
    return found


def _summary(times: dict[str, list[float]]) -> dict[str, Any]:
    pairs = [simulated / plain for plain, simulated in zip(times["plain"], times["simulated"], strict=True)]
    return {
        "ratio": round(median(pairs), 2),
        "range": [round(min(pairs), 2), round(max(pairs), 2)],
        "plain_ms": round(median(times["plain"]), 2),
        "simulated_ms": round(median(times["simulated"]), 2),
    }


def main(out: Path | None) -> None:
    """Prints the table and writes it."""
    torch.set_num_threads(1)
    rows = {f"{name}, {size}": row for size, shape in {**SIZES, **LARGER}.items() for name, row in _of(shape).items()}
    rows |= ratios(small_calls)
    for name, row in rows.items():
        print(f"{name:48} {row['ratio']:6.2f} x  ({row['range'][0]} to {row['range'][1]})  {row['plain_ms']} ms plain")
    if out is not None:
        about = {"torch": torch.__version__, "pairs": PAIRS, "threads": 1}
        out.write_text(json.dumps({"about": about, "rows": rows}, indent=1), encoding="utf-8")


def _of(shape: tuple[int, int, int]) -> dict[str, dict[str, Any]]:
    return ratios(lambda device: works(device, shape))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
