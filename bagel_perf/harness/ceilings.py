"""What a CUDA device reaches on one kind of work, from a graph of repetitions, so that no launch is in the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle, islice

import torch
from torch import Tensor

NUM_REPLAYS = 5
MIN_BYTES = 1 << 28
"""Weights that repetitions take in turn, so that none is still in the L2 cache (50 MiB on Hopper) when used again."""


def device_us(work: Callable[[], object], repeats: int = 1) -> float:
    """Least time on the device of some replays, in us, over ``repeats``, the repetitions that ``work`` holds."""
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    times_ms: list[float] = []
    for _ in range(1 + NUM_REPLAYS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times_ms.append(begin.elapsed_time(end))
    return min(times_ms[1:]) * 1e3 / repeats


def gemm_us(rows: int, num_in: int, num_out: int, device: torch.device) -> float:
    """One bf16 product [rows, num_in] x [num_in, num_out]."""
    x = torch.randn(rows, num_in, device=device, dtype=torch.bfloat16)
    number = max(2, min(16, MIN_BYTES // (2 * num_in * num_out)))
    weights = [torch.randn(num_out, num_in, device=device, dtype=torch.bfloat16) for _ in range(number)]
    y = x.new_empty(rows, num_out)
    repeats = number if rows * num_out * num_in > 1 << 36 else 4 * number

    def work() -> None:
        for weight in islice(cycle(weights), repeats):
            torch.mm(x, weight.t(), out=y)

    return device_us(work, repeats)


def attention_us(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], shapes: tuple[tuple[int, ...], ...], device: torch.device
) -> float:
    """One call of ``attend`` on bf16 queries, keys and values of these shapes."""
    q, k, v = (torch.randn(shape, device=device, dtype=torch.bfloat16) for shape in shapes)
    repeats = 8

    def work() -> None:
        for _ in range(repeats):
            attend(q, k, v)

    return device_us(work, repeats)


def copy_tbps(device: torch.device, num_bytes: int = 1 << 30) -> float:
    """Bytes read and written per second by a large copy, in TB/s."""
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * num_bytes / device_us(lambda: target.copy_(source)) / 1e6


def launch_us(device: torch.device, number: int = 2000) -> float:
    """Host time of launching one small kernel while the device keeps up."""
    x = torch.zeros(1, device=device)
    x.add_(1)
    torch.cuda.synchronize(device)
    begin_ns = time.perf_counter_ns()
    for _ in range(number):
        x.add_(1)
    torch.cuda.synchronize(device)
    return (time.perf_counter_ns() - begin_ns) / number / 1e3
