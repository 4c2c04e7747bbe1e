"""Waits of the warm-up, and of torch at work for itself, are told from the others, and spend no budget."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor

from bagel_perf.records.ledger import Ledger
from bagel_perf.records.syncs import SyncBudgetExceeded
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import SyncWatch, region, watch_host_syncs
from bagel_perf.syncs import window as module
from bagel_perf.syncs.regions import recording
from bagel_perf.syncs.window import Phases, Window, set_window


@pytest.fixture
def x() -> Iterator[Tensor]:
    with SimulatedCuda():
        yield torch.ones(3, device="cuda")


@contextmanager
def watching(ledger: Ledger, budgets: dict[str, int] | None = None, **asked: Any) -> Iterator[SyncWatch]:
    window = Window(ledger, **asked)
    set_window(window)
    try:
        with recording(window), watch_host_syncs("cuda", budgets=budgets) as watch:
            yield watch
    finally:
        set_window(None)


def step(x: Tensor, waits: int = 1) -> None:
    with region("step"):
        for _ in range(waits):
            x.sum().item()


def phases(watch: SyncWatch) -> dict[str, int]:
    found: dict[str, int] = {}
    for site in watch.sites:
        found[site.phase] = found.get(site.phase, 0) + site.count
    return found


def test_what_comes_before_the_first_end_of_a_region_is_warm_up(x: Tensor) -> None:
    ledger = Ledger()
    with watching(ledger, {"": 2}, after="step") as watch:
        x.sum().item()
        step(x, 5)
        assert ("step", 1) in [(record.get("after"), number) for record, number in ledger.read()]
        step(x)
        x.sum().item()
    assert phases(watch) == {"warm-up": 6, "": 2}


def test_the_first_entries_of_a_region_are_warm_up_and_are_held_to_no_budget(x: Tensor) -> None:
    with watching(Ledger(), {"step": 1, "": 3}, skip_first={"step": 2}) as watch:
        step(x, 7)
        x.sum().item()
        step(x, 7)
        step(x)
        step(x)
    assert phases(watch) == {"warm-up": 14, "": 3}
    assert {check.region: (check.num_entries, check.worst) for check in watch.budgets} == {"step": (2, 1), "": (1, 3)}


def test_a_number_without_a_region_is_of_each_by_itself(x: Tensor) -> None:
    with watching(Ledger(), skip_first={"": 1}) as watch:
        for name in ("a", "b", "a"):
            with region(name):
                x.sum().item()
    assert phases(watch) == {"warm-up": 2, "": 1}


def test_waits_beyond_the_budget_of_the_steady_state_exceed_it(x: Tensor) -> None:
    def program() -> None:
        with watching(Ledger(), {"step": 1}, after="step"):
            step(x, 2)
            step(x, 2)

    with pytest.raises(SyncBudgetExceeded, match="waited for the device 2 times"):
        program()


def test_while_it_is_paused_nothing_is_counted_and_no_entry_is_held_to_a_budget(x: Tensor) -> None:
    ledger = Ledger()
    with watching(ledger, {"step": 1}) as watch:
        ledger.is_paused = True
        step(x, 9)
        x.to("cpu", non_blocking=True)
        ledger.is_paused = False
        step(x)
    (check,) = watch.budgets
    assert (watch.host_syncs, check.num_entries, check.worst) == (1, 1, 1)
    copies = watch.report().copies
    assert copies is not None and sum(copy.count for copy in copies) == 1


def frame_in(file: str, depth: int = 0) -> FrameType:
    """A frame of a function in a file, under as many others."""
    inner = "call()" if depth else "sys._getframe()"
    scope: dict[str, Any] = {"sys": sys, "call": lambda: frame_of_depth(depth - 1)}
    exec(compile(f"def own(): return {inner}", file, "exec"), scope)
    found: FrameType = scope["own"]()
    return found


def frame_of_depth(depth: int) -> FrameType:
    return sys._getframe() if not depth else frame_of_depth(depth - 1)


@pytest.mark.parametrize(
    ("file", "phase"),
    [
        ("/env/site-packages/triton/runtime/autotuner.py", "autotuning"),
        ("/env/site-packages/torch/_inductor/runtime/triton_heuristics.py", "autotuning"),
        ("/env/site-packages/torch/_dynamo/convert_frame.py", "compilation"),
        ("/env/site-packages/triton/compiler/compiler.py", "compilation"),
        (torch.cuda.graphs.__file__, "capture"),
        ("/home/user/autotuner.py", ""),
        ("/home/user/mytriton/runtime/autotuner.py", ""),
    ],
)
def test_what_torch_does_for_itself_is_known_by_its_functions(file: str, phase: str) -> None:
    assert Phases().of(frame_in(file)) == phase


def test_deep_below_a_function_that_tunes_it_is_still_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = frame_in("/env/triton/runtime/autotuner.py", depth=20)
    monkeypatch.setattr(module, "_LOADED", ("sys",))
    assert Phases().of(frame) == "autotuning"
