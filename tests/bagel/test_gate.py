"""Tier 1 as the worker runs it: what a kernel changes besides its output is found, with the line that does it."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from bagel_perf.records.bagel import Request
from bagel_perf.records.errors import EnvironmentUnfit, RunFailed
from bagel_perf.records.events import EnvironmentEvent, Event, RunEvent
from bagel_perf.records.plans import Plan
from bagel_perf.records.runs import CountedRun
from bagel_perf.records.sites import SyncSite
from bagel_perf.simulated.streams import POLLED, SimulatedEvent
from bagel_perf.subjects.bagel import loading
from bagel_perf.subjects.bagel.gate import NOT_FINITE, run_gate
from bagel_perf.subjects.bagel.loading import Loaded, load
from bagel_perf.subjects.bagel.model.contracts import Components, DenoiseLoop, Denoising
from kernels_optimized import sync_free
from kernels_optimized.sync_free.loop import denoise_loop

PLAN = Plan(
    kind="gate",
    requests=(Request(task="t2i", width=32, height=32, steps=2),),
    variants=("sync_free",),
    preset="tiny",
    device="cpu",
)


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load(PLAN, lambda text, done, total: None)


@pytest.fixture
def benchmark_kept() -> Iterator[None]:
    before = torch.backends.cudnn.benchmark
    yield
    torch.backends.cudnn.benchmark = before


def runs_with(loop: DenoiseLoop, loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    monkeypatch.setitem(loading.VARIANTS, "sync_free", dataclasses.replace(sync_free.COMPONENTS, denoise_loop=loop))
    events: list[Event] = []
    run_gate(PLAN, loaded, events.append)
    return events


@pytest.mark.usefixtures("benchmark_kept")
def test_a_setting_that_a_kernel_changes_is_named_with_its_line(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loop(state: Denoising, components: Components) -> Tensor:
        torch.backends.cudnn.benchmark = True
        return denoise_loop(state, components)

    line = loop.__code__.co_firstlineno + 1
    with pytest.raises(EnvironmentUnfit) as problem:
        runs_with(loop, loaded, monkeypatch)
    assert problem.value.value == (
        f"cuDNN benchmark from False to True at tests/bagel/test_gate.py:{line} in t2i 32x32 sync_free"
    )


@pytest.mark.usefixtures("benchmark_kept")
def test_a_setting_that_is_put_back_is_named_with_the_line_that_sets_it(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loop(state: Denoising, components: Components) -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            return denoise_loop(state, components)

    line = loop.__code__.co_firstlineno + 1
    with pytest.raises(EnvironmentUnfit, match=rf"cuDNN benchmark from False to True at \S*test_gate.py:{line} in t2i"):
        runs_with(loop, loaded, monkeypatch)


def test_a_variable_that_is_put_back_is_named(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def loop(state: Denoising, components: Components) -> Tensor:
        with monkeypatch.context() as context:
            context.setenv("NVIDIA_TF32_OVERRIDE", "1")
            return denoise_loop(state, components)

    with pytest.raises(EnvironmentUnfit, match=r"NVIDIA_TF32_OVERRIDE from unset to 1 at .* in t2i"):
        runs_with(loop, loaded, monkeypatch)


def test_a_generator_that_is_used_is_named(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def loop(state: Denoising, components: Components) -> Tensor:
        random.random()
        return denoise_loop(state, components)

    with pytest.raises(EnvironmentUnfit, match="Python's generator from as it was to another in t2i"):
        runs_with(loop, loaded, monkeypatch)


@pytest.mark.usefixtures("benchmark_kept")
def test_a_setting_that_is_changed_once_is_named_with_the_line_that_runs_so(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[bool] = []

    def loop(state: Denoising, components: Components) -> Tensor:
        if not done:
            torch.backends.cudnn.benchmark = True
            done.append(True)
        return denoise_loop(state, components)

    with pytest.raises(EnvironmentUnfit, match=r"cuDNN benchmark from False to True at \S+ in t2i 32x32 sync_free"):
        runs_with(loop, loaded, monkeypatch)


def test_latents_that_are_not_finite_are_counted(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def loop(state: Denoising, components: Components) -> Tensor:
        latents_NC = denoise_loop(state, components)
        latents_NC[:2, :3] = torch.nan
        return latents_NC

    counted, *_ = counted_runs(runs_with(loop, loaded, monkeypatch))
    dit = counted.measurement("dit")
    assert dit is not None and dit.counters is not None
    assert dit.counters[NOT_FINITE] == 6


def test_finite_latents_have_no_such_counter(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, *_ = counted_runs(runs_with(denoise_loop, loaded, monkeypatch))
    dit = counted.measurement("dit")
    assert dit is not None and dit.counters is not None and NOT_FINITE not in dit.counters


@pytest.mark.parametrize(("version", "is_tested"), [("2.16.0", False), ("2.13.0+cpu", True)])
def test_counts_on_a_torch_that_nobody_tested_say_so(
    version: str, is_tested: bool, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    first = runs_with(denoise_loop, loaded, monkeypatch)[0]
    assert isinstance(first, EnvironmentEvent)
    assert [note.partition(",")[0] for note in first.notes] == [f"torch {version} was not tested"] * (not is_tested)


def counted_runs(events: list[Event]) -> list[CountedRun]:
    return [each.run for each in events if isinstance(each, RunEvent) and isinstance(each.run, CountedRun)]


def counts_of(events: list[Event], number: int) -> tuple[dict[str, int], list[SyncSite]]:
    """Counters of DiT and sites of the counted run of a pass."""
    run = next(run for run in counted_runs(events) if run.round == number)
    dit = run.measurement("dit")
    assert dit is not None and dit.counters is not None
    return dit.counters, list(run.sites)


def test_each_request_runs_as_the_first_again_as_another_and_bare(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [each.run for each in runs_with(denoise_loop, loaded, monkeypatch) if isinstance(each, RunEvent)]
    assert [(run.purpose, getattr(run, "round", None), run.seed) for run in runs] == [
        ("count", 0, 42),
        ("count", 1, 42),
        ("count", 2, 44),
        ("repeat", None, 42),
        ("other_seed", None, 43),
    ]
    assert len({run.output.latents_sha256 for run in runs}) == 3
    assert runs[0].output == runs[1].output == runs[3].output


def test_a_wait_of_a_later_request_is_heard(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[bool] = []

    def loop(state: Denoising, components: Components) -> Tensor:
        if done:
            state.noise_NC.sum().item()
        done.append(True)
        return denoise_loop(state, components)

    events = runs_with(loop, loaded, monkeypatch)
    waits = [[site.line for site in counts_of(events, number)[1] if site.kind == "scalar_read"] for number in range(3)]
    line = loop.__code__.co_firstlineno + 2
    assert waits == [[], [line], [line]]


def test_a_wait_on_a_thread_is_in_the_stage_and_at_the_line_of_whoever_waits_for_it(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loop(state: Denoising, components: Components) -> Tensor:
        thread = threading.Thread(target=state.noise_NC.sum().item)
        thread.start()
        thread.join()
        return denoise_loop(state, components)

    counters, sites = counts_of(runs_with(loop, loaded, monkeypatch), 0)
    first = loop.__code__.co_firstlineno
    (site,) = (site for site in sites if site.kind == "scalar_read")
    assert site.region == "dit" and site.line in (first + 2, first + 3)
    assert counters[f"threads at tests/bagel/test_gate.py:{first + 2} in {loop.__qualname__}"] == 1


def test_operators_are_counted_by_line_whatever_they_are_called(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loop(state: Denoising, components: Components) -> Tensor:
        torch.tensordot(state.noise_NC, state.noise_NC, 2)
        torch.einsum("nc,mc->nm", state.noise_NC, state.noise_NC)
        torch.cuda.Event().query()
        (state.noise_NC[:, None] * state.noise_NC).sum(-1)
        return denoise_loop(state, components)

    monkeypatch.setattr(torch.cuda, "Event", SimulatedEvent)  # the bare runs have no device
    counters, _ = counts_of(runs_with(loop, loaded, monkeypatch), 0)
    first = loop.__code__.co_firstlineno
    places = {number: f" at tests/bagel/test_gate.py:{first + number} in {loop.__qualname__}" for number in range(6)}
    assert counters["products" + places[1]] == counters["products" + places[2]] == 1
    assert counters[f"hazard ({POLLED})" + places[3]] == 1
    assert counters["operators" + places[4]] == 2


def test_any_other_error_names_its_line(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def loop(state: Denoising, components: Components) -> Tensor:
        raise KeyError("nothing")

    line = loop.__code__.co_firstlineno + 1
    with pytest.raises(RunFailed, match=rf"t2i 32x32 sync_free failed at \S*test_gate.py:{line} \(KeyError"):
        runs_with(loop, loaded, monkeypatch)
