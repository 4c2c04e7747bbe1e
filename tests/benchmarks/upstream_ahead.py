"""Released vLLM-Omni beside our variants, on one device and in turns: ``upstream_ahead.py OUT.json RELEASE=PYTHON...``.

Each release runs in a process of its own, by the Python that has it and ``examples/vllm_omni_bagel.py``; our variants
share one more. All are loaded at once and take turns in an order that a coin draws, one run each a round. A run is
timed stage by stage, between two synchronizations; ours ends with a PNG, theirs with a picture in memory. A kind of
request is ``SIZE:POINTS:TASK:LOW:HIGH``, with the guidance interval; ``--block KIND=ROUNDS=SIDE,...`` may be repeated.
``--table OUT.json...`` prints what was measured. On a CPU it tries the program, at the tiny shape; nothing is compared.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from bagel_perf.measure.counting import count_on
from bagel_perf.measure.device_work import count_device_work
from bagel_perf.measure.environment import environment_of
from bagel_perf.measure.stages import Stage, Subject, WallClock, run_stages, time_stages
from bagel_perf.records import codec
from bagel_perf.records.runs import Output
from bagel_perf.records.store import write_json_atomic
from upstream_ahead_tables import FLASH, OURS, Json, print_tables

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "vllm_omni_bagel.py"
SEED = 42


@dataclass(frozen=True)
class Kind:
    """What is asked for."""

    size: int
    points: int
    task: str
    interval: tuple[float, float]

    @classmethod
    def parse(cls, text: str) -> Kind:
        size, points, task, low, high = text.split(":")
        return cls(int(size), int(points), task, (float(low), float(high)))

    def __str__(self) -> str:
        return ":".join(map(str, (self.size, self.points, self.task, *self.interval)))


def request_of(kind: Kind) -> Any:
    """The request of ours that asks for the same."""
    from bagel_perf.records.bagel import Guidance, Request

    task: Any = kind.task
    guidance = Guidance(interval=kind.interval)
    return Request(task=task, width=kind.size, height=kind.size, steps=kind.points, seed=SEED, guidance=guidance)


class Release:
    """A release in this process."""

    def __init__(self, device: torch.device) -> None:
        os.environ.setdefault("OMNI_BAGEL_SIZES", "1024")
        spec = importlib.util.spec_from_file_location("vllm_omni_bagel", EXAMPLE)
        assert spec is not None and spec.loader is not None
        self._file = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._file)
        self._state = self._file.setup(device)
        self._file.__dict__["given_picture"] = functools.cache(self._file.given_picture)  # the picture is given
        self._num_calls = 0
        bagel = self._state.pipeline.bagel
        native = bagel.forward

        def counted(*arguments: Any, **named: Any) -> Any:
            self._num_calls += 1
            return native(*arguments, **named)

        object.__setattr__(bagel, "forward", counted)

    def subject(self, _: str, kind: Kind) -> Subject:
        """Upstream's stages."""
        self._file.__dict__["INTERVAL"] = kind.interval
        case = {"task": kind.task, "size": kind.size, "points": kind.points}
        return Subject(
            stages=tuple(Stage(name=name, run=run) for name, run in self._file.stages(self._state, case, SEED))
        )

    def pixels(self, picture: Any) -> bytes:
        return bytes(picture.tobytes())

    def take_steps(self, _: Kind) -> int:
        """How often the loop ran the model since this was last asked: releases count steps differently."""
        number, self._num_calls = self._num_calls, 0
        return number

    def forget(self) -> None:
        """A release keeps nothing."""

    def floors(self, kind: Kind) -> Json:
        raise NotImplementedError


class Ours:
    """Our variants in this process."""

    def __init__(self, device: torch.device) -> None:
        from bagel_perf.records.plans import Plan
        from bagel_perf.subjects.bagel import edit
        from bagel_perf.subjects.bagel.loading import load, resolve_attention
        from bagel_perf.subjects.bagel.model.preprocess import draw_default_picture

        edit.__dict__["draw_default_picture"] = functools.cache(draw_default_picture)  # the picture is given
        first = request_of(Kind(256, 15, "i2i", (0.0, 1.0)))
        preset: Any = os.environ.get("OMNI_BAGEL_SHAPE", "tiny")
        plan = Plan(kind="syncs", requests=(first,), variants=("fused",), preset=preset)
        self._model = load(plan, lambda *_: None).model
        self._flash = None
        if device.type == "cuda":
            self._flash = replace(self._model, attention=resolve_attention("flash", device))

    def subject(self, side: str, kind: Kind) -> Subject:
        """The stages of a release, of a variant."""
        from bagel_perf.subjects.bagel.edit import RequestInputs, request_inputs
        from bagel_perf.subjects.bagel.loading import bind
        from bagel_perf.subjects.bagel.model.denoise import prepare, render
        from bagel_perf.subjects.bagel.model.prefill import prefill
        from bagel_perf.subjects.bagel.png import encode_png
        from kernels_baseline.picture import download_picture

        model = self._flash if side.endswith(FLASH) else self._model
        assert model is not None
        components = bind(side.removesuffix(FLASH))
        config = model.config

        def scoped(stage: Callable[[Any], Any]) -> Callable[[Any], Any]:
            def run(value: Any) -> Any:
                with torch.no_grad(), model.attention.scope():
                    return stage(value)

            return run

        def fill(inputs: RequestInputs) -> Any:
            return inputs, prefill(model, inputs.prompt_ids, inputs.picture, components)

        def denoise(filled: Any) -> Any:
            inputs, cache = filled
            state = prepare(model, cache, inputs.noise_NC, inputs.sampling, components)
            return inputs.sampling.grid, components.denoise_loop(state, components)

        def decode(denoised: Any) -> bytes:
            grid, latents = denoised
            return encode_png(download_picture(render(model, latents, grid, components)).numpy())

        stages = {
            "inputs": lambda _: request_inputs(request_of(kind), config, None, SEED),
            "prefill": scoped(fill),
            "denoise": scoped(denoise),
            "decode": scoped(decode),
        }
        return Subject(stages=tuple(Stage(name=name, run=run) for name, run in stages.items()))

    def pixels(self, png: bytes) -> bytes:
        from bagel_perf.subjects.bagel.edit import read_pixels

        return read_pixels(png).tobytes()

    def take_steps(self, kind: Kind) -> int:
        return kind.points - 1

    def forget(self) -> None:
        """Gives up the graphs, with their memory: four processes with 7B weights leave 20 GiB of an H200."""
        from bagel_perf.subjects.bagel.bench import recorded_loop

        for loop in filter(None, map(recorded_loop, OURS)):
            loop.forget()

    def floors(self, kind: Kind) -> Json:
        """The least time of the stages at the rates that this GPU reaches."""
        from bagel_perf.subjects.bagel.edit import request_inputs
        from bagel_perf.subjects.bagel.floors import measure_floors

        request = request_of(kind)
        inputs = request_inputs(request, self._model.config, None, SEED)
        png = run_stages(self.subject("fused", kind))
        ceilings, floors = measure_floors(self._model, [(request, inputs, png)])
        return {"ceilings": codec.to_json(ceilings), "floors": [codec.to_json(floor) for floor in floors]}


def work(of_release: bool) -> None:
    """Answers requests, a JSON object a line, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the libraries print
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    bench: Release | Ours = Release(device) if of_release else Ours(device)
    clock = WallClock(device=device)

    def answer(asked: Json) -> Json:
        how, side, kind = asked["how"], asked["side"], Kind.parse(asked["kind"])
        if how == "floors":
            return bench.floors(kind)
        if how == "rest":
            bench.forget()
            torch.cuda.empty_cache()
            return {"allocated_gib": torch.cuda.memory_allocated() / 2**30}
        subject = bench.subject(side, kind)
        if how == "count":
            counts = count_on(device, subject, lambda _: Output(kind="bytes", md5="", sha256="")).measurements
            worked = count_device_work(subject, inner="step").by_stage
            return {
                "host_syncs": {each.stage: each.host_syncs for each in counts},
                "work": {name: codec.to_json(each) for name, each in worked.items()},
            }
        bench.take_steps(kind)
        outcome = time_stages(subject, clock)
        sha256 = hashlib.sha256(bench.pixels(outcome.output)).hexdigest()
        return {"ms": outcome.latency_ms, "steps": bench.take_steps(kind), "sha256": sha256}

    print(json.dumps({"environment": codec.to_json(environment_of(device, ROOT))}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as problem:  # one side's fault is not the others'
            found = {"error": f"{type(problem).__name__}: {problem}"[:500]}
        print(json.dumps(found), file=answers, flush=True)


class Side:
    """A worker, which several sides of ours share."""

    def __init__(self, python: str, role: str) -> None:
        self._name = f"{role}, {python}"
        command = [python, __file__, "--worker", role]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(self) -> Json:
        return self._answer()

    def ask(self, how: str, side: str, kind: Kind) -> Json:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"how": how, "side": side, "kind": str(kind)}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Json:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise SystemExit(
                f"error: a worker ended early ({self._name}; exit code {code}); it says why above, if at all"
            )
        found: Json = json.loads(line)
        return found

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def energy_meter() -> Callable[[], float | None]:
    """Reads the GPU's energy counter, in J; None where there is none."""
    with contextlib.suppress(Exception):
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    return lambda: None


def measure(options: argparse.Namespace) -> Iterator[Json]:
    """Gives all that is found so far, each time that there is more."""
    begun_s = time.perf_counter()
    workers = {release: Side(python, "release") for release, python in options.releases}
    ours = Side(sys.executable, "ours")
    environments = {name: worker.begin()["environment"] for name, worker in {**workers, "ours": ours}.items()}
    energy, coin = energy_meter(), random.Random(options.seed)
    found: Json = {"environments": environments, "loaded_s": time.perf_counter() - begun_s, "blocks": []}
    yield found

    def ask(how: str, side: str, kind: Kind) -> Json:
        return workers.get(side, ours).ask(how, side, kind)

    def timed(side: str, kind: Kind) -> Json:
        before = energy()
        answer = ask("time", side, kind)
        after = energy()
        return {**answer, "joule": None if before is None or after is None else after - before}

    def is_time_for(expected_s: float) -> bool:
        return time.perf_counter() - begun_s + expected_s < float(options.limit_s)

    for kind_text, number, sides in options.block:
        kind = Kind.parse(kind_text)
        block: Json = {"kind": kind_text, "warm": {}, "counts": {}, "rounds": []}
        found["blocks"].append(block)
        for side in sides:
            block["warm"][side] = timed(side, kind)
            print(f"{time.perf_counter() - begun_s:6.1f} s  {kind_text} {side}: {block['warm'][side]}", file=sys.stderr)
        lasted_s = 0.0
        for _ in range(number):
            if not is_time_for(lasted_s):
                break
            began_s = time.perf_counter()
            order = coin.sample(sides, len(sides))
            block["rounds"].append({side: timed(side, kind) for side in order})
            lasted_s = time.perf_counter() - began_s
            yield found
        for side in options.count.split(",") if options.count else ():
            if side in sides and kind_text in options.count_kinds and is_time_for(20):
                block["counts"][side] = ask("count", side, kind)
        if kind_text in options.floors and is_time_for(20):
            block["floors"] = ask("floors", "fused", kind)
        for worker in (*workers.values(), ours):
            worker.ask("rest", "", kind)
        found["took_s"] = time.perf_counter() - begun_s
        yield found
    for worker in (*workers.values(), ours):
        worker.end()


def release_from(text: str) -> tuple[str, str]:
    """Splits RELEASE=PYTHON; ArgumentTypeError where there is no such Python."""
    name, _, python = text.partition("=")
    if not name or shutil.which(python) is None:
        raise argparse.ArgumentTypeError(f"no Python ({text}); RELEASE=PYTHON, as 0.30.0=/venvs/omni-0.30/bin/python")
    return name, python


def block_from(text: str) -> tuple[str, int, list[str]]:
    """Splits KIND=ROUNDS=SIDE,...; ArgumentTypeError where it cannot be read."""
    try:
        kind, number, sides = text.split("=")
        Kind.parse(kind)
        return kind, int(number), sides.split(",")
    except ValueError:
        form = "SIZE:POINTS:TASK:LOW:HIGH=ROUNDS=SIDE,..., as 256:15:i2i:0:1=6=0.30.0,fused"
        raise argparse.ArgumentTypeError(f"no block ({text}); {form}") from None


def known_sides(releases: Sequence[tuple[str, str]]) -> set[str]:
    return {name for name, _ in releases} | {side + ending for side in OURS for ending in ("", FLASH)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("releases", nargs="*", type=release_from, default=[], metavar="RELEASE=PYTHON")
    parser.add_argument("--block", action="append", type=block_from, default=[], metavar="KIND=ROUNDS=SIDE,...")
    parser.add_argument("--count", default="", metavar="SIDE,...", help="sides whose waits and kernels are counted")
    parser.add_argument("--count-kinds", nargs="*", default=[], metavar="KIND")
    parser.add_argument("--floors", nargs="*", default=[], metavar="KIND")
    parser.add_argument("--limit-s", type=float, default=float("inf"), help="no round begins that would end later")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    parser.add_argument("--worker", choices=("release", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--table", type=Path, nargs="+", metavar="OUT.json")
    options = parser.parse_args()
    if options.worker:
        work(options.worker == "release")
    elif options.table:
        print_tables(options.table)
    elif options.out is None:
        parser.error("name the file to write")
    elif unknown := {side for *_, sides in options.block for side in sides} - known_sides(options.releases):
        parser.error(f"unknown side ({', '.join(sorted(unknown))}); {', '.join(sorted(known_sides(options.releases)))}")
    else:
        for found in measure(options):
            write_json_atomic(options.out, found)
        print_tables([options.out])


if __name__ == "__main__":
    main()
