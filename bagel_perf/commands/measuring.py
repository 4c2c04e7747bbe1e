"""Runs the processes of a comparison: the first proves and times, the others time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from bagel_perf import launch
from bagel_perf.analysis.planning import looks
from bagel_perf.analysis.precision import is_resolved, outlook
from bagel_perf.recorder import Recorder
from bagel_perf.schema.blocks import blocks
from bagel_perf.schema.errors import RunFailed
from bagel_perf.schema.events import Event, ProgressEvent
from bagel_perf.schema.plans import Plan

Listener = Callable[[Event], None]


def measure(plan: Plan, recorder: Recorder, view: Listener) -> None:
    """All rounds of a plan in its processes; with ``resolve_pct`` as many as it takes, up to a maximum."""
    listeners = (recorder.on_event, view)
    launch.run_plan(plan, listeners)
    if recorder.started is None:
        raise RunFailed("the worker measured nothing")
    shares = blocks(recorder.started.pairs, recorder.started.processes)
    _tell(plan, recorder, view, len(shares))
    for share in shares[1:]:
        _run(plan, recorder, listeners, share)
    if plan.resolve_pct is not None:
        _resolve(plan, recorder, listeners, view)


def _resolve(plan: Plan, recorder: Recorder, listeners: Sequence[Listener], view: Listener) -> None:
    """A process more for each look that was not precise enough."""
    assert plan.resolve_pct is not None
    for stop in looks():
        if stop > recorder.num_pairs:
            if is_resolved(plan, recorder.runs, plan.resolve_pct):
                return
            _tell(plan, recorder, view, 1)
            share = (recorder.num_pairs, stop)
            recorder.num_pairs, recorder.num_processes = stop, recorder.num_processes + 1
            _run(plan, recorder, listeners, share)


def _run(plan: Plan, recorder: Recorder, listeners: Sequence[Listener], share: tuple[int, int]) -> None:
    started = recorder.started
    assert started is not None
    number = 1 + max((run.process for run in recorder.runs), default=0)
    own = replace(plan, process=number, rounds=share, pairs=recorder.num_pairs, warmup=started.warmup)
    launch.run_plan(own, listeners)


def _tell(plan: Plan, recorder: Recorder, view: Listener, num_shares: int) -> None:
    """What is to come, once there are rounds to judge by."""
    if plan.resolve_pct is not None and num_shares:
        text = outlook(plan, recorder.runs, plan.resolve_pct)
        view(ProgressEvent(text=f"expected: {text}", done=0, total=1))
