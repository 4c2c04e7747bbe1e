"""A variant of the gate is counted in a process of its own, and what happens to one is no end of the others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bagel_perf.records.bagel import Request
from bagel_perf.records.errors import BagelPerfError, EnvironmentUnfit, RunFailed
from bagel_perf.records.events import Event, FailedEvent, ProgressEvent, WarningEvent, parse_event, to_line
from bagel_perf.records.plans import Plan
from bagel_perf.subjects.bagel import gate_process
from bagel_perf.subjects.bagel.gate_process import run_gate_process
from bagel_perf.worker import as_failure

ROOT = Path(__file__).resolve().parents[2]
PLAN = Plan(
    kind="gate",
    requests=(Request(task="t2i", width=32, height=32, steps=2),),
    variants=("baseline", "sync_free", "fused"),
    preset="tiny",
    device="cpu",
)


def events_of(monkeypatch: pytest.MonkeyPatch, count: object) -> list[Event]:
    monkeypatch.setattr(gate_process, "count_variants", count)
    events: list[Event] = []
    run_gate_process(PLAN, events.append, as_failure)
    return events


def test_each_variant_has_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(plan: Plan, emit: gate_process.Emit) -> None:
        emit(WarningEvent(text=f"{','.join(plan.variants)} {os.getpid()}"))

    texts = [event.text.split() for event in events_of(monkeypatch, count) if isinstance(event, WarningEvent)]
    assert {name for name, _ in texts} == set(PLAN.variants)
    assert len({pid for _, pid in texts} | {str(os.getpid())}) == len(PLAN.variants) + 1


def test_what_ends_one_is_told_with_its_name_and_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(plan: Plan, emit: gate_process.Emit) -> None:
        if plan.variants == ("baseline",):
            os._exit(3)
        if plan.variants == ("fused",):
            raise EnvironmentUnfit("something")
        emit(WarningEvent(text="done"))

    events = events_of(monkeypatch, count)
    failed = {event.variant: event.error for event in events if isinstance(event, FailedEvent)}
    assert failed.keys() == {"baseline", "fused"} and WarningEvent(text="done") in events
    assert isinstance(failed["baseline"], RunFailed) and "the process of baseline died (3)" in str(failed["baseline"])
    assert isinstance(failed["fused"], EnvironmentUnfit)


def test_an_unforeseen_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(plan: Plan, emit: gate_process.Emit) -> None:
        raise KeyError("nothing")

    errors = [event.error for event in events_of(monkeypatch, count) if isinstance(event, FailedEvent)]
    assert [error.value for error in errors] == ["KeyError: 'nothing'"] * 3


def test_progress_is_of_all_processes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(plan: Plan, emit: gate_process.Emit) -> None:
        for done in range(2):
            emit(ProgressEvent(text="", done=done, total=2))

    told = [event for event in events_of(monkeypatch, count) if isinstance(event, ProgressEvent)]
    assert [(event.done, event.total) for event in told] == [(done, 6) for done in range(6)]


def test_an_error_of_a_variant_travels_as_a_line() -> None:
    error: BagelPerfError = RunFailed("it failed", value=3)
    sent = parse_event(to_line(FailedEvent(variant="fused", error=error)))
    assert isinstance(sent, FailedEvent) and sent.variant == "fused" and str(sent.error) == str(error)


def test_the_worker_imports_no_kernel_before_the_device_is_open() -> None:
    imported = "[name for name in sys.modules if name.startswith(('kernels', 'bagel_perf.subjects.bagel.model'))]"
    code = f"import sys, bagel_perf.worker; print({imported})"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_gate_refuses_to_leave_asserts_out() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONOPTIMIZE": "1"}
    command = [sys.executable, "-m", "bagel_perf", "gate", "--quiet"]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 5
    assert "asserts are left out (PYTHONOPTIMIZE=1); expected numbers are those of code with" in ended.stderr
