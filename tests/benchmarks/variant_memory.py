"""Whether a variant holds its memory while it serves requests of changing shapes: ``variant_memory.py OUT.json``.

There are more shapes than a variant keeps recordings of, so that each request records.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from bagel_perf.measure.stages import WallClock
from bagel_perf.records.bagel import Request, parse_resolution, parse_variants
from bagel_perf.records.errors import UsageError
from variant_bench import Bench, Json, common_parser, prepare, run

SIZES = ("256", "512", "256x512", "320x256", "384", "448")
GROWTH_LIMITS = {"allocated": 0.01, "reserved": 0.05, "rss": float("inf")}
MIN_ROUNDS = 5
"""Each shape twice until the memory has settled, then once in each third of what is judged."""


def memory_now(device: torch.device) -> dict[str, int | None]:
    """Bytes that the allocator and this process hold, when nothing is under way."""
    WallClock(device=device).synchronize()
    cuda = (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) if device.type == "cuda" else (None, None)
    rss_bytes = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {"allocated_bytes": cuda[0], "reserved_bytes": cuda[1], "rss_bytes": rss_bytes}


def growth(records: list[Json], figure: str, num_shapes: int) -> float | None:
    """From the first third to the last, once every shape was seen twice; None off CUDA."""
    settled = [record[figure] for record in records[2 * num_shapes :]]
    third = len(settled) // 3
    if None in settled:
        return None
    return float(max(settled[-third:]) / max(settled[:third]) - 1)


def watch_memory(bench: Bench) -> bool:
    """Serves the requests in turn, and looks at the memory after each."""
    records: list[Json] = []
    md5s: dict[Request, str] = {}
    num_shapes, total = len(bench.requests), bench.options.requests
    for index in range(total):
        request = bench.requests[index % num_shapes]
        md5 = bench.draw(bench.built_ins[0], request).md5
        same = md5 == md5s.setdefault(request, md5)
        held = memory_now(bench.model.device)
        records.append({"res": f"{request.width}x{request.height}", "md5": md5, "same": same, **held})
        bench.tell(index, total, records[-1])
    rises = {part: growth(records, f"{part}_bytes", num_shapes) for part in GROWTH_LIMITS}
    num_differ = sum(not record["same"] for record in records)
    bench.save(growth=rises, num_differ=num_differ, memory=records)
    told = ", ".join(f"{part} {'not judged' if rise is None else f'{rise:+.2%}'}" for part, rise in rises.items())
    print(
        f"growth: {told}; {bench.built_ins[0]}, {total} requests of {num_shapes} shapes, {num_differ} pictures changed"
    )
    return not num_differ and all((rise or 0) <= GROWTH_LIMITS[part] for part, rise in rises.items())


def parse_options() -> argparse.Namespace:
    parser = common_parser(__doc__, SIZES)
    parser.add_argument("--variant", default="fused")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--steps", type=int, default=4)
    return parser.parse_args()


def make(options: argparse.Namespace) -> Bench:
    sizes = [parse_resolution(text) for text in options.res]
    parse_variants(options.variant)
    if options.requests < MIN_ROUNDS * len(sizes):
        allowed = f"at least {MIN_ROUNDS * len(sizes)}, {MIN_ROUNDS} of each of {len(sizes)} sizes"
        raise UsageError("too few requests to judge growth", value=options.requests, allowed=allowed)
    requests = [Request(width=width, height=height, steps=options.steps) for width, height in sizes]
    return prepare(options, requests, [options.variant])


if __name__ == "__main__":
    options = parse_options()
    sys.exit(run(lambda: make(options), watch_memory))
