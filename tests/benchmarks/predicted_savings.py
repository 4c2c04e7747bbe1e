"""Whether the predicted saving that ``trace`` gives for waits is what a program saves when they are taken out.

``predicted_savings.py record DIR`` runs three loops on a GPU, each with and without a read of one scalar a step, times
them without a profiler in alternating order, and keeps a trace of each; ``predicted_savings.py judge DIR`` sets the
predicted saving from the trace with waits beside what was measured.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

CASES = {"gpu": (20, 0, 0), "host": (0, 30, 0), "mixed": (8, 0, 30)}
STEPS, ROUNDS, PROFILES = 6, 200, 7


def record(folder: Path) -> None:
    """Times and traces every case; the trace that is kept is the one of median length."""
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    activities = ProfilerActivity.CPU, ProfilerActivity.CUDA
    settings = torch._C._profiler._ExperimentalConfig(enable_cuda_sync_events=True)
    big, small = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for n in (4096, 256))

    def work(matrix: Any, rows: int, times: int) -> Any:
        x = torch.randn(rows, len(matrix), device="cuda", dtype=torch.bfloat16)
        for _ in range(times):
            x = (x @ matrix) * 0.01 if matrix is small else x @ matrix
        return x

    def loop(case: str, wait: bool) -> float:
        large, before, after = CASES[case]
        torch.cuda.synchronize()
        begun_s = time.perf_counter()
        for _ in range(STEPS):
            with record_function("step"):
                x = work(big, 4096, large) if large else work(small, 64, before)
                if wait:
                    x[0, 0].item()
                if after:
                    work(small, 64, after)
        torch.cuda.synchronize()
        return (time.perf_counter() - begun_s) * 1e3

    found: dict[str, Any] = {"torch": torch.__version__, "device": torch.cuda.get_device_name(), "rounds": ROUNDS}
    for case in CASES:
        timed: dict[bool, list[float]] = {True: [], False: []}
        for i in range(ROUNDS + 10):
            for wait in (True, False) if i % 2 else (False, True):
                timed[wait].append(loop(case, wait))
        savings = [a - b for a, b in zip(timed[True][10:], timed[False][10:], strict=True)]
        found[case] = {
            "with_ms": median(timed[True]),
            "without_ms": median(timed[False]),
            "savings_ms": quantiles(savings),
        }
        for wait in (True, False):
            kept = []
            for i in range(PROFILES):
                with profile(activities=[*activities], experimental_config=settings) as profiler:
                    wall_ms = loop(case, wait)
                profiler.export_chrome_trace(str(folder / f"{i}.json"))
                kept.append((wall_ms, i))
            middle = folder / f"{sorted(kept)[PROFILES // 2][1]}.json"
            name = f"{case}_{'with' if wait else 'without'}_waits.json.gz"
            (folder / name).write_bytes(gzip.compress(middle.read_bytes(), mtime=0))
    for i in range(PROFILES):
        (folder / f"{i}.json").unlink()
    (folder / "walls.json").write_text(json.dumps(found, indent=1) + "\n")


def judge(folder: Path) -> None:
    """Prints prediction and measurement of every case."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from bagel_perf.traces.analyse import analyse
    from bagel_perf.traces.formats.reading import read_trace

    walls = json.loads((folder / "walls.json").read_text())
    print(f"{'ms':8}{'without':>10}{'with':>10}{'measured':>10}{'quartiles':>16}{'saving':>8}{'idle':>8}")
    for case in CASES:
        sites = analyse(read_trace(folder / f"{case}_with_waits.json.gz")).sites
        reads = [site for site in sites if site.kind == "scalar_read"]
        predicted_saving_ms = sum(site.predicted_saving_ms[0] for site in reads if site.predicted_saving_ms)
        lost_ms = sum(site.lost_gpu_ms or 0 for site in reads)
        low, middle, high = walls[case]["savings_ms"]
        times = f"{walls[case]['without_ms']:10.2f}{walls[case]['with_ms']:10.2f}"
        print(f"{case:8}{times}{middle:10.2f}{f'{low:.2f} to {high:.2f}':>16}{predicted_saving_ms:8.2f}{lost_ms:8.2f}")


if __name__ == "__main__":
    (record if sys.argv[1] == "record" else judge)(Path(sys.argv[2]))
