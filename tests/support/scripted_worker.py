"""A worker without a model: reads a plan, then behaves as its argument says."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.records.errors import UsageError
from bagel_perf.records.events import (
    DoneEvent,
    EnvironmentEvent,
    ErrorEvent,
    Event,
    ProgressEvent,
    RunEvent,
    TensorEvent,
    to_line,
)
from bagel_perf.records.plans import Plan
from bagel_perf.records.runs import Run, TensorCheck
from scripted import CPU, make_outline, make_runs

PAIRS = 5


def main() -> None:
    behaviour = sys.argv[1]
    plan = Plan.from_json(json.loads(sys.stdin.readline()))
    if behaviour == "error":
        send(ErrorEvent(error=UsageError("picture cannot be read", value="x.png")))
        return
    send(ProgressEvent(text="making weights", done=0, total=1))
    outline = make_outline(plan) if plan.requests else None
    send(EnvironmentEvent(environment=CPU, outline=outline, pairs=PAIRS, warmup=1))
    events = verify_events(plan, behaviour) if plan.kind == "verify" else compare_events(plan, behaviour)
    for index, event in enumerate(events):
        if index == 20:
            misbehave(behaviour)
        send(event)
    send(DoneEvent())


def send(event: Event) -> None:
    print(to_line(event), flush=True)


def compare_events(plan: Plan, behaviour: str) -> Iterator[Event]:
    runs = list(make_runs(plan, PAIRS))
    for index, run in enumerate(runs):
        yield ProgressEvent(text=f"{run.variant}: {run.purpose}", done=index, total=len(runs))
        yield RunEvent(run=draw(run, plan, differs=behaviour == "differ" and run.variant == "sync_free"))


def draw(run: Run, plan: Plan, *, differs: bool) -> Run:
    """The run with its picture written into the plan's folder."""
    md5 = run.output.md5[::-1] if differs else run.output.md5
    path = Path(plan.image_dir, f"{md5}.png")
    path.write_text(md5)
    return replace(run, output=replace(run.output, md5=md5, path=path.name))


def verify_events(plan: Plan, behaviour: str) -> Iterator[Event]:
    for variant in plan.variants:
        for tensor, error in (("i2i.main.k.0", 0.004), ("i2i.main.k.1", 0.005), ("i2i_global.latent", 0.01)):
            wrong = behaviour == "differ" and variant == "pr3987" and tensor.endswith("latent")
            error = 1.0 if wrong else error
            yield TensorEvent(check=TensorCheck(variant=variant, tensor=tensor, error=error, limit=0.04, ok=not wrong))


def misbehave(behaviour: str) -> None:
    if behaviour == "kill":
        print("almost full", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "garbage":
        print("Loading checkpoint shards: 50%", flush=True)
    if behaviour == "exit":
        print("ZeroDivisionError: division by zero", file=sys.stderr)
        sys.exit(3)
    if behaviour == "hang":
        time.sleep(600)


if __name__ == "__main__":
    main()
