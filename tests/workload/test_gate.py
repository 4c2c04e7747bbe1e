"""Tier 1 as the worker runs it: what a kernel changes besides its output is found, with the line that does it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bagel_perf.model.contracts import DenoiseLoop, Denoising, Slots
from bagel_perf.schema.errors import EnvironmentUnfit
from bagel_perf.schema.events import EnvironmentEvent, Event, RunEvent
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.requests import Request
from bagel_perf.workload import bind
from bagel_perf.workload.gate import NOT_FINITE, run_gate
from bagel_perf.workload.loading import Loaded, load
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
    monkeypatch.setitem(bind.RUNGS, "sync_free", replace(sync_free.SLOTS, denoise_loop=loop))
    events: list[Event] = []
    run_gate(PLAN, loaded, events.append)
    return events


@pytest.mark.usefixtures("benchmark_kept")
def test_a_setting_that_a_kernel_changes_is_named_with_its_line(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loop(state: Denoising, slots: Slots) -> Tensor:
        torch.backends.cudnn.benchmark = True
        return denoise_loop(state, slots)

    line = loop.__code__.co_firstlineno + 1
    with pytest.raises(EnvironmentUnfit) as problem:
        runs_with(loop, loaded, monkeypatch)
    assert problem.value.value == (
        f"cuDNN benchmark from False to True at tests/workload/test_gate.py:{line} in t2i 32x32 sync_free"
    )


@pytest.mark.usefixtures("benchmark_kept")
def test_a_setting_that_is_changed_once_is_named_without_a_line(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[bool] = []

    def loop(state: Denoising, slots: Slots) -> Tensor:
        if not done:
            torch.backends.cudnn.benchmark = True
            done.append(True)
        return denoise_loop(state, slots)

    with pytest.raises(EnvironmentUnfit, match=r"cuDNN benchmark from False to True in t2i 32x32 sync_free"):
        runs_with(loop, loaded, monkeypatch)


def test_latents_that_are_not_finite_are_counted(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def loop(state: Denoising, slots: Slots) -> Tensor:
        latents_NC = denoise_loop(state, slots)
        latents_NC[:2, :3] = torch.nan
        return latents_NC

    counted = next(each.run for each in runs_with(loop, loaded, monkeypatch) if isinstance(each, RunEvent))
    dit = counted.measurement("dit")
    assert dit is not None and dit.counters is not None
    assert dit.counters[NOT_FINITE] == 6


def test_finite_latents_have_no_such_counter(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = next(each.run for each in runs_with(denoise_loop, loaded, monkeypatch) if isinstance(each, RunEvent))
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
