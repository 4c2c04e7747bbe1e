"""A comparison runs in several processes, stops when it is precise, and only where the environment stays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bagel_perf import launch
from bagel_perf.commands.measuring import measure
from bagel_perf.recorder import Recorder, make_image_dir
from bagel_perf.schema.errors import EnvironmentUnfit, UsageError
from bagel_perf.schema.events import EnvironmentEvent, Event, ProgressEvent, RunEvent
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.runs import Environment, Measurement, Purpose
from scripted import ENVIRONMENT, make_plan, make_run

Noise = Callable[[int], float]
PROOFS: tuple[Purpose, ...] = ("count", "repeat", "other_seed")


def quiet(number: int) -> float:
    return 0.001 * math.sin(number)


def loud(number: int) -> float:
    return 0.2 * math.sin(1 + 3 * number)


class Worker:
    """Stands for the worker process: sends the proofs and the rounds of its plan."""

    def __init__(self, noise: Noise, environment: Callable[[int], Environment] = lambda process: ENVIRONMENT) -> None:
        self.noise = noise
        self.environment = environment
        self.plans: list[Plan] = []

    def __call__(self, plan: Plan, listeners: Sequence[Callable[[Event], None]]) -> None:
        self.plans.append(plan)
        for event in self._events(plan):
            for listener in listeners:
                listener(event)

    def _events(self, plan: Plan) -> list[Event]:
        pairs = plan.pairs or 6
        events: list[Event] = [
            EnvironmentEvent(environment=self.environment(plan.process), pairs=pairs, warmup=1, processes=3)
        ]
        start, stop = plan.rounds or (0, pairs // 3)
        (request,) = plan.requests
        for variant in plan.variants:
            if plan.process == 0:
                events += [
                    RunEvent(run=make_run(purpose, variant, request)) for purpose in ("count", "repeat", "other_seed")
                ]
            for number in range(start, stop):
                ratio = math.exp(self.noise(number)) if variant != "baseline" else 1.0
                run = make_run("timed", variant, request, number)
                latencies = tuple(Measurement(stage=each.stage, latency_ms=100 * ratio) for each in run.measurements)
                events.append(RunEvent(run=replace(run, measurements=latencies, process=plan.process)))
        return events


def run(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **fields: object
) -> tuple[Recorder, list[str]]:
    monkeypatch.setattr(launch, "run_plan", worker)
    plan = replace(make_plan(variants=("baseline", "sync_free"), image_dir=str(tmp_path / "pictures")), **fields)  # type: ignore[arg-type]
    recorder = Recorder(plan=plan, command="bagel-perf compare", out=tmp_path)
    texts: list[str] = []
    try:
        measure(plan, recorder, lambda event: texts.append(event.text) if isinstance(event, ProgressEvent) else None)
    finally:
        recorder.finish(None)
    return recorder, texts


def test_every_round_runs_once_in_the_processes_that_share_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(quiet)
    recorder, texts = run(worker, tmp_path, monkeypatch)
    assert [(plan.process, plan.rounds) for plan in worker.plans] == [(0, None), (1, (2, 4)), (2, (4, 6))]
    assert recorder.result is not None and recorder.result.complete and recorder.result.processes == 3
    assert {len(cell.latency_ms) for cell in recorder.result.cells} == {6}
    assert texts == []


def test_pairs_go_on_until_the_interval_is_narrow_and_say_so_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, texts = run(Worker(quiet), tmp_path, monkeypatch, pairs=8, resolve_pct=2.0)
    assert recorder.num_pairs == 8
    assert texts == ["expected: 8 pairs, 5 s to resolve 2%"]


def test_noise_takes_more_pairs_up_to_the_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(loud)
    recorder, texts = run(worker, tmp_path, monkeypatch, pairs=8, resolve_pct=2.0)
    assert [plan.rounds for plan in worker.plans[3:]] == [(8, 14), (14, 22), (22, 32)]
    assert recorder.num_pairs == 32
    assert recorder.result is not None and recorder.result.pairs == 32 and recorder.result.complete
    assert all("2% is out of reach" in text for text in texts)


def test_an_environment_that_changes_between_processes_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(quiet, lambda process: replace(ENVIRONMENT, driver="590" if process == 2 else ENVIRONMENT.driver))
    with pytest.raises(EnvironmentUnfit, match=r"driver from 580\.1 to 590"):
        run(worker, tmp_path, monkeypatch)


def test_a_tree_that_the_result_itself_makes_dirty_is_the_same_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(quiet, lambda process: replace(ENVIRONMENT, dirty=process > 0))
    recorder, _ = run(worker, tmp_path, monkeypatch)
    assert recorder.result is not None and recorder.result.environment.dirty is False


def test_results_in_place_of_whose_folder_is_a_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reports").write_text("")
    with pytest.raises(UsageError, match=r"results need a folder \(reports\)"):
        make_image_dir(None)
