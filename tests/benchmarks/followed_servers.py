"""What following costs a server of three spawned processes: requests a second plain, paused and counted.

    python tests/benchmarks/followed_servers.py OUT.json [--device cuda|cpu] [--rounds 3] [--window-s 4]

On ``cuda`` plain and watched servers both run on the GPU. On ``cpu`` the plain one computes on the CPU, the watched one
on the simulated device. Rounds are in random order; the counting of one server is started and stopped in turns by
``syncs --attach`` while requests go on, so that paused and counted are compared within one run. At the end of each
watched server its waits are held to the formula.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

STAGES = ("AR", "DiT", "DiffusionWorker-1")
STEPS = 20
SIZE = {"cuda": 1024, "cpu": 256}


def stage(device: str, size: int, here: Connection, there: Connection) -> None:
    """Answers requests: steps of a small network, each with a wait, as a loop that asks whether to stop."""
    import torch

    layers = torch.nn.ModuleList(torch.nn.Linear(size, size) for _ in range(4)).to(device)
    with torch.inference_mode():
        while (request := here.recv()) is not None:
            x = torch.ones(8, size, device=device)
            for _ in range(STEPS):
                for layer in layers:
                    x = torch.nn.functional.gelu(layer(x))
                if x.sum().item() > 1e30:
                    break
            there.send(request)
    there.send(None)


def serve(device: str, size: int, log: str) -> None:
    """Sends requests through the stages until SIGTERM, three under way at a time, and logs how many were answered."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe(duplex=False) for _ in range(len(STAGES) + 1)]
    for number, name in enumerate(STAGES):
        ends = (pipes[number][0], pipes[number + 1][1])
        context.Process(target=stage, args=(device, size, *ends), name=name).start()
    ends_now = []
    signal.signal(signal.SIGTERM, lambda *_: ends_now.append(True))
    first, last = pipes[0][1], pipes[-1][0]
    for number in range(3):
        first.send(number)
    answered = 0
    with open(log, "w", encoding="utf-8") as file:
        while not ends_now:
            last.recv()
            answered += 1
            file.write(f"{time.monotonic()} {answered}\n")
            file.flush()
            first.send(answered)
    first.send(None)
    while last.recv() is not None:
        answered += 1
    Path(log).with_suffix(".total").write_text(str(answered))


def answered_at(log: Path, moment: float) -> int:
    """Requests answered until then."""
    lines = [line.split() for line in log.read_text(encoding="utf-8").splitlines()]
    return max((int(line[1]) for line in lines if len(line) == 2 and float(line[0]) <= moment), default=0)


def rate(log: Path, window_s: float) -> float:
    """Waits for a window, and gives the requests a second in it."""
    begun = time.monotonic()
    time.sleep(window_s)
    return (answered_at(log, begun + window_s) - answered_at(log, begun)) / window_s


def run_plain(device: str, log: Path, window_s: float) -> dict[str, Any]:
    """One server that nobody watches."""
    server = subprocess.Popen([sys.executable, __file__, "serve", device, str(SIZE[device]), str(log)])
    wait_until_warm(log)
    found = rate(log, window_s)
    server.terminate()
    server.wait(60)
    return {"plain": [found]}


def run_watched(device: str, log: Path, window_s: float) -> dict[str, Any]:
    """One server under a watch that is paused, started and stopped in turns."""
    report = log.with_suffix(".json")
    own = ["--device", device, "--no-profile", "--quiet", "--paused", "--json", str(report)]
    command = [sys.executable, "-m", "bagel_perf", "syncs", *own, "--"]
    watcher = subprocess.Popen([*command, sys.executable, __file__, "serve", "cuda", str(SIZE[device]), str(log)])
    wait_until_warm(log)
    found: dict[str, Any] = {"paused": [], "counted": []}
    for _ in range(2):
        found["paused"].append(rate(log, window_s))
        attach(watcher.pid, "start")
        found["counted"].append(rate(log, window_s))
        attach(watcher.pid, "stop")
    watcher.send_signal(signal.SIGTERM)
    watcher.wait(120)
    found["report"] = json.loads(report.read_text(encoding="utf-8"))
    return found


def attach(pid: int, action: str) -> None:
    """Says to the watch whether to count."""
    command = [sys.executable, "-m", "bagel_perf", "syncs", "--quiet", "--attach", str(pid), action]
    subprocess.run(command, check=True)


def wait_until_warm(log: Path) -> None:
    """Waits until twenty requests were answered."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if log.exists() and answered_at(log, time.monotonic()) >= 20:
            return
        time.sleep(0.2)
    raise SystemExit("the server answers nothing")


def exact(device: str, folder: Path) -> dict[str, Any]:
    """Waits by process of a server that is counted from its first request to its last, beside the formula."""
    log, report = folder / "exact.log", folder / "exact.json"
    command = [sys.executable, "-m", "bagel_perf", "syncs", "--device", device, "--no-profile", "--quiet"]
    watcher = subprocess.Popen(
        [*command, "--json", str(report), "--", sys.executable, __file__, "serve", "cuda", str(SIZE[device]), str(log)]
    )
    wait_until_warm(log)
    watcher.send_signal(signal.SIGTERM)
    watcher.wait(120)
    total = int(log.with_suffix(".total").read_text())
    found = json.loads(report.read_text(encoding="utf-8"))
    reads = {
        each["name"]: sum(
            site["count"]
            for site in found["sites"]
            if site["process"] == each["name"] and site["kind"] == "scalar_read"
        )
        for each in found["processes"]
        if each["name"] in STAGES
    }
    return {"requests": total, "formula": total * STEPS, "reads": reads, "device": found["device"]}


def main() -> None:
    """Measures, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--device", default="cpu", choices=("cuda", "cpu"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window-s", type=float, default=4.0)
    asked = parser.parse_args()
    found: dict[str, list[float]] = {"plain": [], "paused": [], "counted": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = exact(asked.device, folder)
        for number in range(asked.rounds):
            runs = [run_plain, run_watched]
            random.shuffle(runs)
            for run in runs:
                seen = run(asked.device, folder / f"{run.__name__}{number}.log", asked.window_s)
                for mode in found:
                    found[mode] += seen.get(mode, [])
    medians = {mode: round(statistics.median(values), 2) for mode, values in found.items()}
    result = {
        "device": asked.device,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "steps": STEPS,
        "requests_per_s": {mode: [round(value, 2) for value in values] for mode, values in found.items()},
        "medians": medians,
        "paused_to_plain": round(medians["paused"] / medians["plain"], 4),
        "counted_to_paused": round(medians["counted"] / medians["paused"], 4),
        "exact": counts,
    }
    Path(asked.out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main()
