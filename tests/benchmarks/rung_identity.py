"""Whether the rungs give identical pictures over shapes, seeds, tasks and guidance, and hold their memory.

``rung_identity.py identity OUT.json`` holds rungs to a reference, picture by picture; ``memory OUT.json`` has one rung
serve requests of changing shapes, more of them than it keeps recordings of.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bagel_perf.harness.measure import WallClock, run_stages
from bagel_perf.model.bagel import Bagel
from bagel_perf.schema import codec
from bagel_perf.schema.errors import BagelPerfError
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.requests import Guidance, Request, Task, parse_resolution
from bagel_perf.schema.runs import Picture
from bagel_perf.schema.store import write_json_atomic, writing
from bagel_perf.schema.variants import parse_variants
from bagel_perf.workload.bind import bind
from bagel_perf.workload.compare import FLAT_SPREAD, take_captures
from bagel_perf.workload.edit import describe_picture, edit_subject, request_inputs
from bagel_perf.workload.loading import load
from bagel_perf.workload.worker import as_failure

Json = dict[str, Any]

SIZES = {"identity": ("256", "512", "768x1024", "1024"), "memory": ("256", "512", "256x512", "320x256", "384", "448")}
TEXT, GLOBAL = Guidance(renorm="text_channel", interval=(0.0, 1.0)), Guidance(renorm="global", interval=(0.4, 1.0))
KINDS: tuple[tuple[Task, Guidance], ...] = (("i2i", TEXT), ("t2i", GLOBAL), ("i2i", GLOBAL), ("t2i", TEXT))
"""The first two show each task and each guidance."""
GROWTH_LIMITS = {"allocated": 0.01, "reserved": 0.05, "rss": float("inf")}


@dataclass(frozen=True, slots=True)
class Bench:
    """The model, loaded once, and what is asked of it; ``found`` is what goes into the file."""

    model: Bagel
    requests: list[Request]
    rungs: list[str]
    options: argparse.Namespace
    begun_s: float
    found: Json

    def draw(self, rung: str, request: Request) -> Picture:
        inputs = request_inputs(request, self.model.config, self.options.weights, request.seed)
        return describe_picture(run_stages(edit_subject(self.model, inputs, bind(rung))))

    def save(self, **found: Any) -> None:
        self.found.update(found)
        write_json_atomic(self.options.out, self.found)

    def tell(self, index: int, total: int, record: Json) -> None:
        print(f"{index + 1}/{total}, {time.perf_counter() - self.begun_s:.0f} s: {record}", file=sys.stderr, flush=True)


def identity_requests(sizes: list[tuple[int, int]], num_seeds: int) -> list[Request]:
    """Seed 0 of every kind at every size, then the further seeds, small sizes first."""
    order = [(size, 0, kind) for kind in KINDS for size in sizes]
    ascending = sorted(sizes, key=lambda size: size[0] * size[1])
    order += [(size, seed, kind) for size in ascending for seed in range(1, num_seeds) for kind in KINDS]
    return [Request(task=k[0], width=w, height=h, seed=seed, guidance=k[1]) for (w, h), seed, k in order]


def run_rungs(bench: Bench, request: Request, md5: str, names: tuple[str, ...]) -> tuple[int, list[Json]]:
    """How many runs there were, and those that differ; a rung that records nothing runs under the first name only."""
    runs = [(rung, name) for rung in bench.rungs for name in (names if take_captures(rung) else names[:1])]
    drawn = [{"rung": rung, "run": name, "md5": bench.draw(rung, request).md5} for rung, name in runs]
    return len(runs), [run for run in drawn if run["md5"] != md5]


def run_case(bench: Bench, request: Request) -> Json:
    """The reference's picture of a request, and what differs from it when it is recorded and when it is replayed."""
    begun_s = time.perf_counter()
    picture = bench.draw(bench.options.against, request)
    num_runs, differ = run_rungs(bench, request, picture.md5, ("first", "replay"))
    guidance, res = request.guidance, f"{request.width}x{request.height}"
    asked = {"res": res, "task": request.task, "renorm": guidance.renorm, "interval": [*guidance.interval]}
    got = {"md5": picture.md5, "spread": round(picture.spread, 2), "num_runs": num_runs, "differ": differ}
    return {**asked, "seed": request.seed, **got, "wall_s": round(time.perf_counter() - begun_s, 2)}


def prove_identity(bench: Bench) -> bool:
    """Runs the cases that fit into the time, and the first once more after all changes of shape."""
    cases: list[Json] = []
    took_s: dict[int, float] = {}
    for index, request in enumerate(bench.requests):
        expected_s = took_s.get(request.num_latent_tokens, 0.0)
        if time.perf_counter() - bench.begun_s + expected_s < bench.options.limit_s:
            cases.append(run_case(bench, request))
            took_s[request.num_latent_tokens] = cases[-1]["wall_s"]
            bench.tell(index, len(bench.requests), cases[-1])
            bench.save(cases=cases)
    if cases:
        num_runs, differ = run_rungs(bench, bench.requests[0], cases[0]["md5"], ("again",))
        cases[0].update(num_runs=cases[0]["num_runs"] + num_runs, differ=cases[0]["differ"] + differ)
    return judge_identity(bench, cases, len(bench.requests) - len(cases))


def judge_identity(bench: Bench, cases: list[Json], not_run: int) -> bool:
    num_runs, num_differ = sum(case["num_runs"] for case in cases), sum(len(case["differ"]) for case in cases)
    distinct, num_flat = len({case["md5"] for case in cases}), sum(not case["spread"] > FLAT_SPREAD for case in cases)
    bench.save(num_runs=num_runs, num_differ=num_differ, distinct=distinct, num_flat=num_flat, not_run=not_run)
    different = "all different" if distinct == len(cases) else f"{distinct} different"
    flat = f", {num_flat} flat" if num_flat else ""
    skipped = f"; not run: {not_run} cases (time)" if not_run else ""
    print(f"identical: {num_runs - num_differ} of {num_runs} runs, {len(cases)} pictures, {different}{flat}{skipped}")
    return 0 < len(cases) == distinct and not num_differ and not num_flat


def memory_now(device: torch.device) -> dict[str, int | None]:
    """Bytes that the allocator and this process hold, when nothing is under way."""
    WallClock(device=device).synchronize()
    cuda = (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) if device.type == "cuda" else (None, None)
    rss_bytes = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {"allocated_bytes": cuda[0], "reserved_bytes": cuda[1], "rss_bytes": rss_bytes}


def growth(records: list[Json], figure: str, num_shapes: int) -> float | None:
    """From the first third to the last, once every shape was seen twice; None off CUDA, or if a third lacks a shape."""
    settled = [record[figure] for record in records[2 * num_shapes :]]
    third = len(settled) // 3
    if third < num_shapes or None in settled:
        return None
    return float(max(settled[-third:]) / max(settled[:third]) - 1)


def watch_memory(bench: Bench) -> bool:
    """Serves the requests in turn, and looks at the memory after each."""
    records: list[Json] = []
    md5s: dict[Request, str] = {}
    num_shapes, total = len(bench.requests), bench.options.requests
    for index in range(total):
        request = bench.requests[index % num_shapes]
        md5 = bench.draw(bench.rungs[0], request).md5
        same = md5 == md5s.setdefault(request, md5)
        held = memory_now(bench.model.device)
        records.append({"res": f"{request.width}x{request.height}", "md5": md5, "same": same, **held})
        bench.tell(index, total, records[-1])
    rises = {part: growth(records, f"{part}_bytes", num_shapes) for part in GROWTH_LIMITS}
    num_differ = sum(not record["same"] for record in records)
    bench.save(growth=rises, num_differ=num_differ, memory=records)
    told = ", ".join(f"{part} {'not judged' if rise is None else f'{rise:+.2%}'}" for part, rise in rises.items())
    print(f"growth: {told}; {bench.rungs[0]}, {total} requests of {num_shapes} shapes, {num_differ} pictures changed")
    return not num_differ and all((rise or 0) <= GROWTH_LIMITS[part] for part, rise in rises.items())


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    identity, memory = (commands.add_parser(name) for name in SIZES)
    for command in (identity, memory):
        command.add_argument("out", type=Path, metavar="OUT.json")
        command.add_argument("--weights", type=Path)
        command.add_argument("--preset", default="auto")
        command.add_argument("--res", nargs="+")
    identity.add_argument("--seeds", type=int, default=5)
    identity.add_argument("--rungs", default="sync_free,captured,fused")
    identity.add_argument("--against", default="baseline")
    identity.add_argument("--limit-s", type=float, default=float("inf"), help="from the start of this program")
    memory.add_argument("--rung", default="fused")
    memory.add_argument("--requests", type=int, default=200)
    memory.add_argument("--steps", type=int, default=4)
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> Bench:
    """Loads the model; refuses what cannot run before anything does."""
    begun_s, sizes = time.perf_counter(), [parse_resolution(text) for text in options.res or SIZES[options.command]]
    if options.command == "identity":
        requests = identity_requests(sizes, options.seeds)
        rungs = [rung for rung in options.rungs.split(",") if rung != options.against]
        parse_variants(",".join((options.against, *rungs)))
    else:
        requests = [Request(width=width, height=height, steps=options.steps) for width, height in sizes]
        rungs = [options.rung]
    weights = options.weights and str(options.weights)
    plan = Plan(kind="syncs", requests=(requests[0],), variants=(rungs[0],), preset=options.preset, weights=weights)
    with writing(options.out):
        options.out.touch()
    loaded = load(plan, lambda text, done, total: None)
    for request in requests[: len(sizes)]:
        request_inputs(request, loaded.model.config, options.weights, request.seed)
    asked = {key: str(value) for key, value in vars(options).items() if key != "out"}
    found = {"environment": codec.to_json(loaded.environment), "options": asked}
    return Bench(loaded.model, requests, rungs, options, begun_s, found)


def main() -> int:
    options = parse_options()
    try:
        bench = prepare(options)
        return 0 if (prove_identity if options.command == "identity" else watch_memory)(bench) else 1
    except Exception as problem:  # whatever torch or CUDA raises becomes one line too
        error = problem if isinstance(problem, BagelPerfError) else as_failure(problem)
        print(*getattr(error, "__notes__", []), f"error: {error}", sep="\n", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
