"""What the two benchmarks of variants share: a model that is loaded once, and a picture of it by any variant."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bagel_perf.measure.stages import run_stages
from bagel_perf.records import codec
from bagel_perf.records.bagel import Request
from bagel_perf.records.errors import BagelPerfError
from bagel_perf.records.plans import Plan
from bagel_perf.records.runs import Output
from bagel_perf.records.store import write_json_atomic, writing
from bagel_perf.subjects.bagel.edit import describe_picture, edit_subject, request_inputs
from bagel_perf.subjects.bagel.loading import bind, load
from bagel_perf.subjects.bagel.model.bagel import Bagel
from bagel_perf.worker import as_failure

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bench:
    """The model, loaded once, and what is asked of it; ``found`` is what goes into the file."""

    model: Bagel
    requests: list[Request]
    built_ins: list[str]
    options: argparse.Namespace
    begun_s: float
    found: Json

    def draw(self, variant: str, request: Request) -> Output:
        inputs = request_inputs(request, self.model.config, self.options.weights, request.seed)
        png: bytes = run_stages(edit_subject(self.model, inputs, bind(variant)))
        return describe_picture(png)

    def save(self, **found: Any) -> None:
        self.found.update(found)
        write_json_atomic(self.options.out, self.found)

    def tell(self, index: int, total: int, record: Json) -> None:
        print(f"{index + 1}/{total}, {time.perf_counter() - self.begun_s:.0f} s: {record}", file=sys.stderr, flush=True)


def common_parser(description: str | None, sizes: Sequence[str]) -> argparse.ArgumentParser:
    """What both are told: the file to write, the model, the sizes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT.json")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--res", nargs="+", default=list(sizes))
    return parser


def prepare(options: argparse.Namespace, requests: list[Request], built_ins: list[str]) -> Bench:
    """Loads the model; refuses what cannot run before anything does."""
    begun_s, weights = time.perf_counter(), options.weights and str(options.weights)
    plan = Plan(kind="syncs", requests=(requests[0],), variants=(built_ins[0],), preset=options.preset, weights=weights)
    with writing(options.out):
        options.out.touch()
    loaded = load(plan, lambda text, done, total: None)
    for request in {(each.width, each.height): each for each in requests}.values():
        request_inputs(request, loaded.model.config, options.weights, request.seed)
    asked = {key: str(value) for key, value in vars(options).items() if key != "out"}
    found = {"environment": codec.to_json(loaded.environment), "options": asked}
    return Bench(loaded.model, requests, built_ins, options, begun_s, found)


def run(make: Callable[[], Bench], judge: Callable[[Bench], bool]) -> int:
    """The exit code: 0 where ``judge`` finds what it should, 1 where not, the error's own where there is one."""
    try:
        return 0 if judge(make()) else 1
    except Exception as problem:  # whatever torch or CUDA raises becomes one line too
        error = problem if isinstance(problem, BagelPerfError) else as_failure(problem)
        print(*getattr(error, "__notes__", []), f"error: {error}", sep="\n", file=sys.stderr)
        return error.exit_code
