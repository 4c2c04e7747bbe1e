"""A comparison runs in several processes, stops when it is precise, and only where the environment stays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf import launch
from bagel_perf.commands.measuring import measure
from bagel_perf.recorder import Recorder, make_image_dir
from bagel_perf.records.errors import EnvironmentUnfit, UsageError
from bagel_perf.records.events import EnvironmentEvent, Event, NoteEvent, RunEvent
from bagel_perf.records.plans import Plan, blocks
from bagel_perf.records.runs import Conditions, Environment, TimedRun, TimedStage
from bagel_perf.verdicts.planning import is_resolved
from docs_results import headline_table
from scripted import ENVIRONMENT, PROOFS, make_outline, make_plan, make_run

Noise = Callable[[int], float]


def quiet(number: int) -> float:
    return 0.001 * math.sin(number)


def loud(number: int) -> float:
    return 0.2 * math.sin(1 + 3 * (number // 2))


class Worker:
    """Stands for the worker process: sends the proofs and the rounds of its plan."""

    def __init__(
        self,
        noise: Noise,
        environment: Callable[[int], Environment] = lambda process: ENVIRONMENT,
        hot: Mapping[int, Conditions] | None = None,
    ) -> None:
        self.noise = noise
        self.hot = hot or {}
        self.environment = environment
        self.plans: list[Plan] = []

    def __call__(self, plan: Plan, listeners: Sequence[Callable[[Event], None]]) -> None:
        self.plans.append(plan)
        for event in self._events(plan):
            for listener in listeners:
                listener(event)

    def _events(self, plan: Plan) -> list[Event]:
        pairs = plan.pairs or 6
        number = plan.processes or 3
        events: list[Event] = [
            EnvironmentEvent(
                environment=self.environment(plan.process),
                outline=make_outline(plan),
                pairs=pairs,
                warmup=1,
                processes=number,
            )
        ]
        start, stop = plan.rounds or blocks(pairs, number)[0]
        (request,) = plan.requests
        for variant in plan.variants:
            if plan.process == 0:
                events += [RunEvent(run=make_run(kind, variant, request)) for kind in PROOFS]
            for number in range(start, stop):
                ratio = math.exp(self.noise(number)) if variant != "baseline" else 1.0
                run = make_run(TimedRun, variant, request, number)
                latencies = tuple(TimedStage(stage=each.stage, latency_ms=100 * ratio) for each in run.measurements)
                events.append(
                    RunEvent(
                        run=replace(run, measurements=latencies, process=plan.process, conditions=self.hot.get(number))
                    )
                )
        return events


def run(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **fields: object
) -> tuple[Recorder, list[str]]:
    monkeypatch.setattr(launch, "run_plan", worker)
    plan = replace(make_plan(variants=("baseline", "sync_free"), image_dir=str(tmp_path / "pictures")), **fields)
    recorder = Recorder(plan=plan, command="bagel-perf compare", out=tmp_path)
    texts: list[str] = []
    try:
        measure(plan, recorder, lambda event: texts.append(event.text) if isinstance(event, NoteEvent) else None)
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
    assert texts == ["start-up took 0 s; 2 more processes spend about 0 s on theirs"]
    assert len(recorder.result.startups_s) == 3 and recorder.result.looks == ()


def test_pairs_go_on_until_the_interval_is_narrow_and_say_so_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(quiet)
    recorder, texts = run(worker, tmp_path, monkeypatch, pairs=12, resolve_pct=2.0)
    assert (recorder.num_pairs, len(worker.plans), len(texts)) == (12, 6, 1)
    assert recorder.result is not None and recorder.result.looks == (6, 12, 18)
    assert "covers 96.2% or more, as the run chose its end" in headline_table(recorder.result).caption


def test_noise_takes_more_pairs_up_to_the_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(loud)
    recorder, texts = run(worker, tmp_path, monkeypatch, pairs=12, resolve_pct=2.0)
    assert [plan.rounds for plan in worker.plans[6:]] == [(first, first + 2) for first in range(12, 36, 2)]
    assert recorder.num_pairs == 36
    assert recorder.result is not None and recorder.result.pairs == 36 and recorder.result.complete
    assert recorder.result.processes == 18
    assert len(texts) == 3 and all("2% is out of reach" in text for text in texts[1:])


@pytest.mark.parametrize("most", [6, 7, 8])
def test_any_number_of_processes_may_be_the_most(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, _ = run(Worker(loud), tmp_path, monkeypatch, pairs=12, processes=most, resolve_pct=2.0)
    assert recorder.result is not None
    assert (recorder.result.processes, recorder.result.complete) == (most, True)


def test_rounds_that_do_not_count_stop_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hot = Conditions(window_ms=1.0, throttle_reasons=("hw_thermal_slowdown",))
    worker = Worker(quiet, hot=dict.fromkeys(range(12), hot))
    recorder, texts = run(worker, tmp_path, monkeypatch, pairs=12, resolve_pct=2.0)
    assert recorder.result is not None and recorder.result.processes == 12, "six of them count"
    assert "too few to resolve anything" in texts[1]


def test_a_component_that_is_not_known_well_enough_takes_more_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two that are compared are; what the ablation shows is held to it as well."""
    plan = make_plan(variants=("baseline", "sync_free"))
    runs = [make_run(TimedRun, variant, plan.requests[0], number) for variant in plan.variants for number in range(6)]
    assert is_resolved(make_outline(plan), runs, 1.0, (6, 12))
    ablating = replace(plan, ablate=True)
    left_in = next(name for name in ablating.measured if name not in plan.variants)
    noisy = [replace(make_run(TimedRun, left_in, plan.requests[0], n), variant=left_in) for n in range(6)]
    scaled = [
        replace(
            run,
            measurements=tuple(replace(m, latency_ms=m.latency_ms * (1 + 0.3 * (n % 2))) for m in run.measurements),
        )
        for n, run in enumerate(noisy)
    ]
    assert not is_resolved(make_outline(ablating), [*runs, *scaled], 1.0, (6, 12))


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
