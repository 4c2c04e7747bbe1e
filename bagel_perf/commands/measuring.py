"""Runs the processes of a comparison: the first proves and times, the others time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from bagel_perf import launch
from bagel_perf.analysis.planning import duration_text, looks_of
from bagel_perf.analysis.precision import is_resolved, outlook
from bagel_perf.recorder import Recorder
from bagel_perf.report.progress import ProgressView
from bagel_perf.schema.blocks import FIRST_LOOK, ROUNDS_PER_PROCESS, blocks
from bagel_perf.schema.errors import BagelPerfError, RunFailed
from bagel_perf.schema.events import EnvironmentEvent, Event, NoteEvent
from bagel_perf.schema.plans import Plan
from bagel_perf.sharing import run_shared

Listener = Callable[[Event], None]
Measuring = Callable[[Plan, Recorder, Listener], None]


def measured(plan: Plan, recorder: Recorder, *, quiet: bool, how: Measuring | None = None) -> BagelPerfError | None:
    """Measures a plan under a progress view and keeps what there is; gives the error that ended it early.

    ``how`` takes the place of ``measure``.
    """
    error: BagelPerfError | None = None
    try:
        with ProgressView(sys.stderr, quiet=quiet) as view:
            (how or measure)(plan, recorder, view.on_event)
    except BagelPerfError as problem:
        error = problem
    finally:
        recorder.finish(error)
    return error


def measure(plan: Plan, recorder: Recorder, view: Listener) -> None:
    """All rounds of a plan in its processes; with ``resolve_pct`` as many as it takes, up to a maximum."""
    numbers = looks_of(plan)
    processes = _Processes(plan=replace(plan, processes=FIRST_LOOK) if numbers else plan, recorder=recorder, view=view)
    processes.run(None)
    if recorder.started is None or recorder.outline is None:
        raise RunFailed("the worker measured nothing")
    shares = blocks(recorder.started.pairs, recorder.started.processes)
    processes.tell_start_up(len(shares) - 1)
    for share in shares[1:]:
        processes.run(share)
    for number in numbers[1:]:
        assert plan.resolve_pct is not None
        if is_resolved(recorder.outline, recorder.runs, plan.resolve_pct, numbers):
            return
        expected = outlook(recorder.outline, recorder.runs, plan.resolve_pct, numbers, processes.seconds_each)
        processes.tell(f"expected: {expected}")
        processes.run_more(number - recorder.num_processes)


@dataclass(slots=True, kw_only=True)
class _Processes:
    """Those of one plan, a worker after the other; ``took_s`` is how long those took that only time."""

    plan: Plan
    recorder: Recorder
    view: Listener
    took_s: list[float] = field(default_factory=list)

    @property
    def seconds_each(self) -> float:
        return sum(self.took_s) / len(self.took_s) if self.took_s else 0.0

    def run(self, share: tuple[int, int] | None) -> None:
        """One process, with these rounds; the first has none yet, as its device decides."""
        recorder, plan, begun = self.recorder, self.plan, time.monotonic()
        if share is not None:
            assert recorder.started is not None
            number = 1 + max((run.process for run in recorder.runs), default=0)
            warmup = recorder.started.warmup
            plan = replace(plan, process=number, rounds=share, pairs=recorder.num_pairs, warmup=warmup)

        def on_start(event: Event) -> None:
            if isinstance(event, EnvironmentEvent):
                recorder.startups_s.append(time.monotonic() - begun)

        run = run_shared if plan.targets else launch.run_plan
        run(plan, (on_start, recorder.on_event, self.view))
        if share is not None:
            self.took_s.append(time.monotonic() - begun)

    def run_more(self, number: int) -> None:
        """So many processes more, with rounds of their own."""
        recorder = self.recorder
        for _ in range(number):
            first = recorder.num_pairs
            recorder.num_pairs += ROUNDS_PER_PROCESS
            recorder.num_processes += 1
            self.run((first, recorder.num_pairs))

    def tell_start_up(self, num_more: int) -> None:
        """What the other processes will cost before they time anything."""
        (took_s,) = self.recorder.startups_s
        if num_more:
            cost = duration_text(num_more * took_s)
            self.tell(f"start-up took {took_s:.0f} s; {num_more} more processes spend about {cost} on theirs")

    def tell(self, text: str) -> None:
        """A line of its own."""
        self.view(NoteEvent(text=text))
