"""How fast a large Kineto trace is read and analysed, against ``json.load`` and a DataFrame of its events.

``python tests/benchmarks/trace_speed.py --size-mb 1000 --json figures.json`` makes its own trace, runs each side in
processes of its own, and prints a table. The other side needs pandas; ``--other-python`` names an interpreter that has
it, ``--pairs`` is the number of runs of each side.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

HEADER = """
  {
    "schemaVersion": 1,
    "deviceProperties": [
    {
      "id": 0, "name": "Made-up GPU", "totalGlobalMem": 85017493504, "computeMajor": 9, "computeMinor": 0
    }
    ],
    "cuda_runtime_version": 13000,
  "displayTimeUnit": "ms",
  "baseTimeNanoseconds": 1790857026000000000,
  "traceEvents": [
"""
FOOTER = """
  ],
  "traceName": "made-up.json"
}"""

# Real names are this long: most of the text of a trace is names of kernels.
ELEMENTWISE = (
    "void at::native::vectorized_elementwise_kernel<8, at::native::{0}(at::TensorIteratorBase&)::{{lambda()#1}}::"
    "operator()() const::{{lambda()#6}}::operator()() const::{{lambda(c10::BFloat16)#1}}, std::array<char*, 2ul> >("
    "int, at::native::{0}(at::TensorIteratorBase&)::{{lambda()#1}}::operator()() const::{{lambda()#6}}::operator()() "
    "const::{{lambda(c10::BFloat16)#1}}, std::array<char*, 2ul>)"
)
LAYER = (
    ("aten::linear", "aten::matmul", "aten::mm", "nvjet_sm90_tst_128x64_64x8_1x2_h_bz_NNT", 60.0),
    ("aten::mul", "aten::mul", "aten::mul", ELEMENTWISE.format("mul_kernel"), 6.0),
    ("aten::silu", "aten::silu", "aten::silu", ELEMENTWISE.format("silu_kernel"), 6.0),
    ("aten::linear", "aten::matmul", "aten::mm", "nvjet_sm90_tst_256x128_64x4_2x1_v_bz_coopA_TNT", 60.0),
    ("aten::add", "aten::add", "aten::add", ELEMENTWISE.format("add_kernel"), 5.0),
    ("aten::layer_norm", "aten::native_layer_norm", "aten::empty", ELEMENTWISE.format("layer_norm_kernel"), 8.0),
)
LAYERS_PER_STEP = 28


class Maker:
    """Text of events of a host that issues work and a GPU that does it, with one wait in every layer."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._host_us = 4759597058852.0
        self._gpu_us = self._host_us
        self._number = 0

    def step(self, number: int) -> Iterator[str]:
        """One step of a loop."""
        begun_us = self._host_us
        for _ in range(LAYERS_PER_STEP):
            for outer, middle, inner, kernel, length_us in LAYER:
                yield from self._operator(outer, middle, inner, kernel, length_us)
            yield from self._read()
        yield _slice("user_annotation", f"ProfilerStep#{number}", begun_us, self._host_us - begun_us, self._next())

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _operator(self, outer: str, middle: str, inner: str, kernel: str, length_us: float) -> Iterator[str]:
        begun_us, number = self._host_us, self._next()
        launch_us = begun_us + 9 + 4 * self._random.random()
        self._gpu_us = max(self._gpu_us, launch_us + 6)
        yield _slice("cpu_op", outer, begun_us, 24.0, number)
        yield _slice("cpu_op", middle, begun_us + 1.5, 21.0, number)
        yield _slice("cpu_op", inner, begun_us + 3.0, 18.0, number)
        yield _slice(
            "cuda_runtime", "cudaLaunchKernel", launch_us, 5.5, number, f'"cbid": 211, "correlation": {number}'
        )
        yield _flow("s", number, 436, launch_us)
        yield _kernel(kernel, self._gpu_us, length_us, number)
        yield _flow("f", number, 7, self._gpu_us)
        self._gpu_us += length_us + 0.9
        self._host_us += 26.0 + 6 * self._random.random()

    def _read(self) -> Iterator[str]:
        begun_us, number, second = self._host_us, self._next(), self._next()
        self._gpu_us = max(self._gpu_us, begun_us + 12)
        returned_us = max(self._gpu_us + 4, begun_us + 16)
        yield _slice("cpu_op", "aten::item", begun_us, returned_us - begun_us + 3, number)
        yield _slice("cpu_op", "aten::_local_scalar_dense", begun_us + 1, returned_us - begun_us + 1, number)
        copy_args = f'"cbid": 41, "correlation": {number}'
        yield _slice("cuda_runtime", "cudaMemcpyAsync", begun_us + 4, 6.0, number, copy_args)
        yield _flow("s", number, 436, begun_us + 4)
        gpu_args = f'"device": 0, "context": 1, "stream": 7, "correlation": {number}, "bytes": 4'
        name = "Memcpy DtoH (Device -> Pinned)"
        yield _slice("gpu_memcpy", name, self._gpu_us, 1.6, number, gpu_args, pid=0, tid=7)
        yield _flow("f", number, 7, self._gpu_us)
        length_us = returned_us - begun_us - 10.5
        sync_args = f'"cbid": 131, "correlation": {second}'
        yield _slice("cuda_runtime", "cudaStreamSynchronize", begun_us + 10.5, length_us, number, sync_args)
        row_args = f'"cuda_sync_kind": "Stream Sync", "stream": 7, "correlation": {second}, "device": 0'
        yield _slice("cuda_sync", "Stream Sync", begun_us + 11, length_us - 1, number, row_args, pid=0, tid=7)
        self._host_us = returned_us + 8
        self._gpu_us += 1.6


def _slice(
    category: str,
    name: str,
    start_us: float,
    length_us: float,
    number: int,
    args: str = '"Record function id": 0',
    *,
    pid: int = 436,
    tid: int = 436,
) -> str:
    return (
        f'  {{\n    "ph": "X", "cat": "{category}", "name": "{name}", "pid": {pid}, "tid": {tid},\n'
        f'    "ts": {start_us:.3f}, "dur": {length_us:.3f},\n    "args": {{\n      "External id": {number},{args}\n'
        "    }\n  }"
    )


def _kernel(name: str, start_us: float, length_us: float, number: int) -> str:
    args = (
        f'"queued": 0, "device": 0, "context": 1, "stream": 7, "correlation": {number}, "registers per thread": 44, '
        '"shared memory": 0, "blocks per SM": 8.000000, "warps per SM": 64.000000, "grid": [1056, 1, 1], '
        '"block": [256, 1, 1], "est. achieved occupancy %": 63'
    )
    return _slice("kernel", name, start_us, length_us, number, args, pid=0, tid=7)


def _flow(phase: str, number: int, tid: int, start_us: float) -> str:
    pid = 436 if phase == "s" else 0
    end = ', "bp": "e"' if phase == "f" else ""
    return (
        f'  {{\n    "ph": "{phase}", "id": {number}, "pid": {pid}, "tid": {tid}, "ts": {start_us:.3f},\n'
        f'    "cat": "ac2g", "name": "ac2g"{end}\n  }}'
    )


def make_trace(path: Path, num_bytes: int) -> int:
    """Writes a trace of about this size; returns the number of its events."""
    maker, num_events, step = Maker(), 0, 0
    with path.open("w", encoding="utf-8") as file:
        written = file.write(HEADER)
        while written < num_bytes:
            events = list(maker.step(step))
            written += file.write((",\n" if step else "") + ",\n".join(events))
            num_events, step = num_events + len(events), step + 1
        file.write(FOOTER)
    return num_events


def run_ours(path: Path) -> dict[str, float]:
    """Reads and analyses a trace in this process."""
    sys.path.insert(0, str(ROOT))
    begun_s = time.perf_counter()
    from bagel_perf.traces.analyse import analyse
    from bagel_perf.traces.formats.reading import read_trace

    trace = read_trace(path)
    read_s = time.perf_counter() - begun_s
    report = analyse(trace)
    return {"read_s": read_s, "wall_s": time.perf_counter() - begun_s, "host_syncs": report.host_syncs or 0}


def run_other(path: Path) -> dict[str, float]:
    """Loads a trace with the standard library and pandas in this process."""
    begun_s = time.perf_counter()
    import pandas  # type: ignore[import-untyped,import-not-found,unused-ignore]

    with path.open(encoding="utf-8") as file:
        data = json.load(file)
    read_s = time.perf_counter() - begun_s
    frame = pandas.DataFrame(data["traceEvents"])
    return {"read_s": read_s, "wall_s": time.perf_counter() - begun_s, "rows": len(frame)}


def in_a_process(python: str, side: str, path: Path) -> dict[str, Any]:
    """The figures of one side, measured in a fresh process, with its peak memory."""
    command = [python, str(Path(__file__).resolve()), "--side", side, "--trace", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"error: {side} failed ({done.stderr.strip().splitlines()[-1]}); pip install pandas for the other"
        )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def processor() -> str:
    """The model of the processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0]}, {len(models)} cores" if models else platform.processor()


def compare(path: Path, num_events: int, num_pairs: int, other_python: str) -> dict[str, Any]:
    """Figures of both sides on one trace, in pairs of runs one after the other; of which first, a coin decides."""
    pythons = {"ours": sys.executable, "other": other_python}
    pairs = []
    for _ in range(num_pairs):
        order = random.sample(sorted(pythons), k=2)
        pairs.append({side: in_a_process(pythons[side], side, path) for side in order})
    speedups = [pair["other"]["wall_s"] / pair["ours"]["wall_s"] for pair in pairs]
    return {
        "trace": {"num_bytes": path.stat().st_size, "num_events": num_events},
        "machine": {"processor": processor(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("msgspec", "numpy")} | {"pandas": pairs[0]["other"]["pandas"]},
        "pairs": pairs,
        "speedup": statistics.median(speedups),
        "lowest_speedup": min(speedups),
    }


def print_table(figures: dict[str, Any]) -> None:
    """Both sides, a line a run."""
    print(
        f"{figures['trace']['num_bytes'] / 1e9:.2f} GB, {figures['trace']['num_events']} events; {figures['machine']}"
    )
    print(f"{'':28}{'read (s)':>10}{'all (s)':>10}{'peak (GB)':>12}")
    for pair in figures["pairs"]:
        for name, side in (("json.load and DataFrame", "other"), ("reader and analysis", "ours")):
            run = pair[side]
            print(f"{name:28}{run['read_s']:10.2f}{run['wall_s']:10.2f}{run['peak_bytes'] / 1e9:12.2f}")
    print(f"{figures['speedup']:.1f} times as fast (median of pairs), {figures['lowest_speedup']:.1f} (lowest)")


def main() -> None:
    """Makes a trace, measures both sides, prints and writes figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--other-python", default=sys.executable)
    parser.add_argument("--side", choices=("ours", "other"), help=argparse.SUPPRESS)
    parser.add_argument("--trace", type=Path, help="use this trace instead of making one")
    options = parser.parse_args()
    if options.side:
        figures = (run_ours if options.side == "ours" else run_other)(options.trace)
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        pandas = version("pandas") if options.side == "other" else ""
        print(json.dumps({**figures, "peak_bytes": peak_bytes, "pandas": pandas}))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = options.trace or Path(folder) / "trace.json"
        num_events = 0 if options.trace else make_trace(path, options.size_mb * 1_000_000)
        figures = compare(path, num_events, options.pairs, options.other_python)
    print_table(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
