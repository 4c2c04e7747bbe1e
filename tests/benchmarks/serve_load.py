"""Loads a server of the tiny preset on the loopback interface and holds every answer to what it has to be.

    PYTHONPATH=tests/support python tests/benchmarks/serve_load.py OUT.json [--seconds 60] [-- OPTIONS OF SERVE]

Clients at 1 to 32 at once, a level after the other and the last one twice, each in a closed loop: edits and text to
image of six shapes, 5% broken requests of eight kinds, 5% clients that leave. A picture has to be the one that
``baseline`` makes in this process, to the bit; a broken request has to get its status; every request has to be answered
or refused with 429, and to be in the server's own counts. The server's memory may not grow from the last level but one
to the last, which is the same; the server has to end with 0. Exit code 1 where any of that fails.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from bagel_perf.measure.environment import environment_of
from bagel_perf.measure.stages import run_stages
from bagel_perf.records.bagel import Request
from bagel_perf.records.plans import Plan
from bagel_perf.serve.pictures import read_picture
from bagel_perf.subjects.bagel.edit import edit_subject, request_inputs
from bagel_perf.subjects.bagel.loading import bind, load
from bagel_servers import Served, chat, picture, served

LEVELS = (1, 2, 4, 8, 16, 32, 32)
SHAPES = (
    ("i2i", 64, 64, 3),
    ("t2i", 64, 64, 5),
    ("i2i", 32, 96, 2),
    ("t2i", 128, 64, 3),
    ("t2i", 32, 32, 8),
    ("i2i", 96, 96, 2),
)
SEEDS = (1, 2)
PROMPT = "Change the color to blue"
BROKEN_SHARE = 0.05
LEAVING_SHARE = 0.05
MAX_GROWTH = 1.1
SAMPLE_S = 0.5
SMALL = {"prompt": PROMPT, "width": 64, "height": 64, "num_inference_steps": 2}
BROKEN: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("images/generations", {"json": {**SMALL, "width": 65}}, 400),
    ("images/generations", {"json": {**SMALL, "num_inference_steps": 10**9}}, 400),
    ("images/generations", {"json": {**SMALL, "model": "another"}}, 404),
    ("images/generations", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
    ("images/generations", {"content": b"a", "headers": {"Content-Type": "text/plain"}}, 415),
    ("images/edits", {"data": SMALL, "files": {"image": picture()[:500]}}, 400),
    ("chat/completions", {"json": {**SMALL, "messages": chat(PROMPT, b"no picture")}}, 400),
    (
        "chat/completions",
        {
            "json": {
                "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///"}}]}]
            }
        },
        400,
    ),
)


@dataclass(slots=True)
class Level:
    """What the clients of a level met."""

    num_clients: int
    outcomes: Counter[str] = field(default_factory=Counter)
    latency_ms: list[float] = field(default_factory=list)
    queue_wait_ms: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "clients": self.num_clients,
            "seconds": self.seconds,
            "pictures_per_s": len(self.latency_ms) / self.seconds,
            "outcomes": dict(sorted(self.outcomes.items())),
            "e2e_ms": percentiles(self.latency_ms),
            "queue_wait_ms": percentiles(self.queue_wait_ms),
            "problems": self.problems,
        }


def percentiles(values: list[float]) -> dict[str, float | None]:
    return {f"p{each}": float(np.percentile(values, each)) if values else None for each in (50, 99)}


def expected_pictures() -> dict[tuple[int, int], bytes]:
    """By shape and seed, in the base64 of an answer: what ``baseline`` makes in this process."""
    plan = Plan(kind="serve", variants=("baseline",), device="cpu", preset="tiny")
    loaded = load(plan, lambda text, done, total: None)
    found = {}
    for number, (task, width, height, steps) in enumerate(SHAPES):
        for seed in SEEDS:
            image = read_picture(picture(), 1 << 20, "image") if task == "i2i" else None
            request = Request(
                task="i2i" if task == "i2i" else "t2i",
                width=width,
                height=height,
                steps=steps,
                seed=seed,
                prompt=PROMPT,
            )
            inputs = request_inputs(request, loaded.model.config, None, seed, image=image)
            found[number, seed] = base64.b64encode(run_stages(edit_subject(loaded.model, inputs, bind("baseline"))))
    return found


def of_shape(number: int, seed: int, rng: random.Random) -> tuple[str, dict[str, Any]]:
    """Route and body of a request, on either route that the task has."""
    task, width, height, steps = SHAPES[number]
    asked = {"width": width, "height": height, "num_inference_steps": steps, "seed": seed}
    if rng.random() < 0.5:
        content = picture() if task == "i2i" else None
        return "chat/completions", {"json": {"messages": chat(PROMPT, content), **asked}}
    if task == "i2i":
        return "images/edits", {"data": {"prompt": PROMPT, **asked}, "files": {"image": picture()}}
    return "images/generations", {"json": {"prompt": PROMPT, **asked}}


async def client(
    url: str, level: Level, rng: random.Random, end_s: float, expected: dict[tuple[int, int], bytes]
) -> None:
    async with httpx2.AsyncClient(base_url=f"{url}/v1/", timeout=120) as http:
        while time.perf_counter() < end_s:
            draw = rng.random()
            try:
                if draw < BROKEN_SHARE:
                    await ask_broken(http, level, rng)
                elif draw < BROKEN_SHARE + LEAVING_SHARE:
                    await leave(http, level, rng)
                else:
                    await ask(http, level, rng, expected)
            except httpx2.HTTPError as error:
                level.outcomes["lost"] += 1
                level.problems.append(f"lost: {type(error).__name__}: {error}")


async def ask(
    http: httpx2.AsyncClient, level: Level, rng: random.Random, expected: dict[tuple[int, int], bytes]
) -> None:
    number, seed = rng.randrange(len(SHAPES)), rng.choice(SEEDS)
    route, arguments = of_shape(number, seed, rng)
    start_s = time.perf_counter()
    response = await http.post(route, **arguments)
    took_ms = (time.perf_counter() - start_s) * 1e3
    if response.status_code == 429:
        level.outcomes["refused with 429"] += 1
        await asyncio.sleep(float(response.headers["Retry-After"]))
        return
    if response.status_code != 200:
        level.outcomes["failed"] += 1
        level.problems.append(f"{route}: {response.status_code} {response.text[:200]}")
        return
    answer = response.json()
    if route == "chat/completions":
        (part,) = answer["choices"][0]["message"]["content"]
        encoded, measured = part["image_url"]["url"].partition(",")[2], part
    else:
        encoded, measured = answer["data"][0]["b64_json"], answer["metrics"]
    if encoded.encode() != expected[number, seed]:
        level.outcomes["wrong picture"] += 1
        level.problems.append(f"wrong picture: {SHAPES[number]}, seed {seed}")
        return
    level.outcomes["right picture"] += 1
    level.latency_ms.append(took_ms)
    level.queue_wait_ms.append(measured["stage_durations"]["queue_wait_ms"])


async def ask_broken(http: httpx2.AsyncClient, level: Level, rng: random.Random) -> None:
    route, arguments, status = rng.choice(BROKEN)
    response = await http.post(route, **arguments)
    if response.status_code in (status, 429):
        level.outcomes["broken, refused"] += 1
    else:
        level.outcomes["broken, accepted"] += 1
        level.problems.append(f"{route}: {response.status_code} for a broken request, not {status}")


async def leave(http: httpx2.AsyncClient, level: Level, rng: random.Random) -> None:
    route, arguments = of_shape(rng.randrange(len(SHAPES)), rng.choice(SEEDS), rng)
    try:
        await http.post(route, **arguments, timeout=rng.uniform(0.001, 0.1))
        level.outcomes["meant to leave, answered before"] += 1
    except httpx2.TimeoutException:
        level.outcomes["left"] += 1


def resident_mib(pid: int) -> float:
    """Of the server's process, without those of Ray."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


async def peak_mib(pid: int, peaks: list[float]) -> None:
    """Appends the most that was resident, until it is cancelled."""
    peaks.append(resident_mib(pid))
    while True:
        await asyncio.sleep(SAMPLE_S)
        peaks[-1] = max(peaks[-1], await asyncio.to_thread(resident_mib, pid))


async def load_server(server: Served, seconds: float, seed: int) -> tuple[list[Level], list[float]]:
    expected = expected_pictures()
    levels: list[Level] = []
    memory_mib: list[float] = []
    for num_clients in LEVELS:
        level = Level(num_clients)
        start_s = time.perf_counter()
        end_s = start_s + seconds / len(LEVELS)
        clients = [
            client(server.url, level, random.Random(f"{seed} {num_clients} {each}"), end_s, expected)
            for each in range(num_clients)
        ]
        sampling = asyncio.create_task(peak_mib(server.process.pid, memory_mib))
        await asyncio.gather(*clients)
        level.seconds = time.perf_counter() - start_s
        sampling.cancel()
        levels.append(level)
        print(json.dumps({**level.to_json(), "memory_mib": memory_mib[-1]}), file=sys.stderr, flush=True)
    return levels, memory_mib


def problems_of(server: Served, levels: list[Level], memory_mib: list[float]) -> list[str]:
    problems = [problem for level in levels for problem in level.problems]
    if memory_mib[-1] > MAX_GROWTH * memory_mib[-2]:
        problems.append(f"memory grew: {memory_mib} MiB")
    asked = sum(level.outcomes.total() for level in levels)
    left = sum(level.outcomes["left"] for level in levels)
    counted = server.metric('requests_total{route="/v1/')
    if not asked - left <= counted <= asked:  # one that left before its headers arrived is counted by nobody
        problems.append(f"{asked} requests were sent, of which {left} left; the server counted {counted:.0f}")
    running = server.metric("num_requests_running") + server.metric("num_requests_waiting")
    if running:
        problems.append(f"{running:.0f} requests are still in line")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    arguments, options = parser.parse_args(words[:end]), words[end + 1 :]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with served(*options) as server:
        levels, memory_mib = asyncio.run(load_server(server, arguments.seconds, arguments.seed))
        time.sleep(1.0)  # those whose clients left end
        problems = problems_of(server, levels, memory_mib)
    import torch

    environment = environment_of(torch.device("cpu"), Path(__file__).parent)
    result = {
        "device": environment.device_name,
        "torch": environment.torch,
        "commit": environment.commit,
        "options": options,
        "memory_mib": memory_mib,
        "levels": [level.to_json() for level in levels],
        "problems": problems,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    print("\n".join(problems[:20]))
    return 1 if problems else 0


def table(result: dict[str, Any]) -> str:
    heads = (
        "clients",
        "pictures/s",
        "p50 ms",
        "p99 ms",
        "wait p50 ms",
        "right",
        "wrong",
        "lost",
        "429",
        "broken",
        "left",
    )
    lines = [f"| {' | '.join(heads)} | peak MiB |", "|" + "---|" * (len(heads) + 1)]
    for level, memory in zip(result["levels"], result["memory_mib"], strict=True):
        outcomes = Counter(level["outcomes"])
        figures = [
            level["pictures_per_s"],
            level["e2e_ms"]["p50"],
            level["e2e_ms"]["p99"],
            level["queue_wait_ms"]["p50"],
        ]
        names = ("right picture", "wrong picture", "lost", "refused with 429", "broken, refused", "left")
        cells = [f"{each:.1f}" for each in figures] + [str(outcomes[name]) for name in names]
        lines.append("| " + " | ".join([str(level["clients"]), *cells, f"{memory:.0f}"]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
