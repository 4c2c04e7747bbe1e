"""Whether the variants give identical pictures over shapes, seeds, tasks, guidance: ``variant_identity.py OUT.json``.

Each picture of a reference is held against each variant's, as it is recorded, as it is replayed, and once more after
all changes of shape.
"""

from __future__ import annotations

import argparse
import sys
import time

from bagel_perf.records.bagel import Guidance, Request, Task, parse_resolution, parse_variants
from bagel_perf.records.runs import MIN_SPREAD
from bagel_perf.subjects.bagel.bench import recorded_loop
from variant_bench import Bench, Json, common_parser, prepare, run

SIZES = ("256", "512", "768x1024", "1024")
TEXT, GLOBAL = Guidance(renorm="text_channel", interval=(0.0, 1.0)), Guidance(renorm="global", interval=(0.4, 1.0))
KINDS: tuple[tuple[Task, Guidance], ...] = (("i2i", TEXT), ("t2i", GLOBAL), ("i2i", GLOBAL), ("t2i", TEXT))
"""The first two show each task and each guidance."""


def identity_requests(sizes: list[tuple[int, int]], num_seeds: int) -> list[Request]:
    """Seed 0 of every kind at every size, then the further seeds, small sizes first."""
    order = [(size, 0, kind) for kind in KINDS for size in sizes]
    ascending = sorted(sizes, key=lambda size: size[0] * size[1])
    order += [(size, seed, kind) for size in ascending for seed in range(1, num_seeds) for kind in KINDS]
    return [Request(task=k[0], width=w, height=h, seed=seed, guidance=k[1]) for (w, h), seed, k in order]


def run_variants(bench: Bench, request: Request, md5: str, names: tuple[str, ...]) -> tuple[int, list[Json]]:
    """How many runs there were, and those that differ; one that records nothing runs under the first name only."""
    runs = [
        (built_in, name) for built_in in bench.built_ins for name in (names if recorded_loop(built_in) else names[:1])
    ]
    drawn = [{"variant": built_in, "run": name, "md5": bench.draw(built_in, request).md5} for built_in, name in runs]
    return len(runs), [run for run in drawn if run["md5"] != md5]


def run_case(bench: Bench, request: Request) -> Json:
    """The reference's picture of a request, and what differs from it when it is recorded and when it is replayed."""
    begun_s = time.perf_counter()
    picture = bench.draw(bench.options.against, request)
    num_runs, differ = run_variants(bench, request, picture.md5, ("first", "replay"))
    guidance, res = request.guidance, f"{request.width}x{request.height}"
    asked = {"res": res, "task": request.task, "renorm": guidance.renorm, "interval": [*guidance.interval]}
    got = {"md5": picture.md5, "spread": round(picture.spread or 0.0, 2), "num_runs": num_runs, "differ": differ}
    return {**asked, "seed": request.seed, **got, "wall_s": round(time.perf_counter() - begun_s, 2)}


def prove_identity(bench: Bench) -> bool:
    """Runs the cases that fit into the time, and the first once more after all changes of shape."""
    cases: list[Json] = []
    took_s: dict[str, float] = {}
    for index, request in enumerate(bench.requests):
        expected_s = took_s.get(request.case, 0.0)
        if time.perf_counter() - bench.begun_s + expected_s < bench.options.limit_s:
            cases.append(run_case(bench, request))
            took_s[request.case] = cases[-1]["wall_s"]
            bench.tell(index, len(bench.requests), cases[-1])
            bench.save(cases=cases)
    if cases:
        num_runs, differ = run_variants(bench, bench.requests[0], cases[0]["md5"], ("again",))
        cases[0].update(num_runs=cases[0]["num_runs"] + num_runs, differ=cases[0]["differ"] + differ)
    return judge_identity(bench, cases, len(bench.requests) - len(cases))


def judge_identity(bench: Bench, cases: list[Json], not_run: int) -> bool:
    num_runs, num_differ = sum(case["num_runs"] for case in cases), sum(len(case["differ"]) for case in cases)
    distinct, num_flat = len({case["md5"] for case in cases}), sum(not case["spread"] >= MIN_SPREAD for case in cases)
    bench.save(num_runs=num_runs, num_differ=num_differ, distinct=distinct, num_flat=num_flat, not_run=not_run)
    different = "all different" if distinct == len(cases) else f"{distinct} different"
    flat = f", {num_flat} flat" if num_flat else ""
    skipped = f"; not run: {not_run} cases (time)" if not_run else ""
    print(f"identical: {num_runs - num_differ} of {num_runs} runs, {len(cases)} pictures, {different}{flat}{skipped}")
    return 0 < len(cases) == distinct and not num_differ and not num_flat


def parse_options() -> argparse.Namespace:
    parser = common_parser(__doc__, SIZES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--variants", default="sync_free,captured,fused")
    parser.add_argument("--against", default="baseline")
    parser.add_argument("--limit-s", type=float, default=float("inf"), help="from the start of this program")
    return parser.parse_args()


def make(options: argparse.Namespace) -> Bench:
    built_ins = [built_in for built_in in options.variants.split(",") if built_in != options.against]
    parse_variants(",".join((options.against, *built_ins)))
    requests = identity_requests([parse_resolution(text) for text in options.res], options.seeds)
    return prepare(options, requests, built_ins)


if __name__ == "__main__":
    options = parse_options()
    sys.exit(run(lambda: make(options), prove_identity))
