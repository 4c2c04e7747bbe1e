"""Which asynchronous copies hold the host, and how long, on a GPU that is busy.

``staged_copies.py OUT.json``: each copy is made while ``BUSY_MS`` of work are queued. A copy that is queued returns at
once; one that the driver stages may hold the host inside ``cudaMemcpyAsync`` until the queue has drained, and makes no
synchronizing call meanwhile. ``held`` says in how many of the tries the queued work was over when the copy returned.
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
from torch import Tensor

BUSY_MS = 20.0
TRIES = 5
SIZES = (4, 1024, 16 * 1024, 64 * 1024, 64 * 1024 + 4, 128 * 1024, 1024 * 1024, 16 * 1024 * 1024)
"""Bytes."""


def cases(num_bytes: int) -> dict[str, Callable[[], object]]:
    """Copies of so many bytes, by name."""
    n = num_bytes // 4
    host, pinned = torch.ones(n), torch.ones(n).pin_memory()
    wide_host, wide_pinned = torch.ones(n, 2), torch.ones(n, 2).pin_memory()
    device, wide_device = torch.ones(n, device="cuda"), torch.ones(n, 2, device="cuda")
    return {
        "upload, pageable": lambda: host.to("cuda", non_blocking=True),
        "upload, pinned": lambda: pinned.to("cuda", non_blocking=True),
        "upload, pageable, gapped": lambda: wide_host[:, 0].to("cuda", non_blocking=True),
        "upload, pinned, gapped": lambda: wide_pinned[:, 0].to("cuda", non_blocking=True),
        "upload, pinned, other dtype": lambda: pinned.to("cuda", torch.float64, non_blocking=True),
        "upload, pageable, copy_": lambda: device.copy_(host, non_blocking=True),
        "upload, pinned, copy_": lambda: device.copy_(pinned, non_blocking=True),
        "upload, pinned, copy_ into gapped": lambda: wide_device[:, 0].copy_(pinned, non_blocking=True),
        "download, .to": lambda: device.to("cpu", non_blocking=True),
        "download, .to, gapped": lambda: wide_device[:, 0].to("cpu", non_blocking=True),
        "download, .to, other dtype": lambda: device.to("cpu", torch.float64, non_blocking=True),
        "download, pageable, copy_": lambda: host.copy_(device, non_blocking=True),
        "download, pinned, copy_": lambda: pinned.copy_(device, non_blocking=True),
        "download, pinned, copy_ into gapped": lambda: wide_pinned[:, 0].copy_(device, non_blocking=True),
        "download, pinned, copy_ of other dtype": lambda: pinned.copy_(device.half(), non_blocking=True),
        "upload, pageable, blocking": lambda: host.to("cuda"),
    }


def busy_cycles() -> int:
    """Cycles of ``torch.cuda._sleep`` that take ``BUSY_MS``."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(1_000_000)
    start.record()
    torch.cuda._sleep(10_000_000)
    end.record()
    torch.cuda.synchronize()
    return int(10_000_000 * BUSY_MS / start.elapsed_time(end))


def measured(copy: Callable[[], object], cycles: int, heard: list[Any]) -> dict[str, Any]:
    """Host time of the copy on a busy and on an idle GPU, waits that callbacks told of, and how often it was held."""
    busy_ms, idle_ms, held, kept = [], [], 0, copy()
    heard.clear()
    for _ in range(TRIES):
        done = torch.cuda.Event()
        torch.cuda.synchronize()
        torch.cuda._sleep(cycles)
        done.record()
        heard.clear()
        begun_s = time.perf_counter()
        kept = copy()
        busy_ms.append((time.perf_counter() - begun_s) * 1e3)
        held += done.query()
        waits = len(heard)
        torch.cuda.synchronize()
        begun_s = time.perf_counter()
        kept = copy()
        idle_ms.append((time.perf_counter() - begun_s) * 1e3)
    assert kept is not None or isinstance(kept, Tensor)
    return {"busy_ms": round(median(busy_ms), 3), "idle_ms": round(median(idle_ms), 3), "held": held, "waits": waits}


def main(out: Path) -> None:
    """Measures every copy at every size, prints a table and writes it."""
    from bagel_perf.syncs.cuda import listening_to_cuda

    heard: list[Any] = []
    rows: dict[str, dict[int, dict[str, Any]]] = {}
    with listening_to_cuda(heard.append):
        cycles = busy_cycles()
        for num_bytes in SIZES:
            for name, copy in cases(num_bytes).items():
                rows.setdefault(name, {})[num_bytes] = measured(copy, cycles, heard)
    about = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "busy_ms": BUSY_MS, "tries": TRIES}
    out.write_text(json.dumps({"about": about, "rows": rows}, indent=1), encoding="utf-8")
    for name, sizes in rows.items():
        print(f"{name:42}", *(f"{row['held']}/{row['waits']}/{row['busy_ms']:.1f}" for row in sizes.values()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
