"""Runs a comparison in its worker processes: one a file, perhaps under other Pythons, or several that share the rounds.

Processes of files walk through one schedule and wait before each step that is theirs. Whichever waits for the earliest
step goes on; so one of them runs at a time, in the order that the common seed draws. Of the processes that share the
rounds the first proves and times, the others time.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from msgspec.structs import replace

from bagel_perf import launch
from bagel_perf.recorder import Recorder
from bagel_perf.records import codec
from bagel_perf.records.errors import BagelPerfError, EnvironmentUnfit, RunFailed, UsageError, reworded
from bagel_perf.records.events import EnvironmentEvent, Event, NoteEvent, ProgressEvent, WaitingEvent, WarningEvent
from bagel_perf.records.outlines import TOGETHER, Outline, Scalar
from bagel_perf.records.plans import FIRST_LOOK, ROUNDS_PER_PROCESS, Plan, blocks
from bagel_perf.records.runs import Environment
from bagel_perf.records.targets import Target
from bagel_perf.report.progress import ProgressView
from bagel_perf.verdicts.planning import duration_text, is_resolved, looks_of, outlook

Place = tuple[str, str | None]
"""A file, and the virtual environment whose Python runs it."""

OF_A_VARIANT = ("commit", "dirty", "python", "torch", "cuda", "cudnn", "num_threads")
"""What may differ between the environments of two files of one comparison, and is told of each variant then."""


def groups_of(targets: Sequence[Target]) -> tuple[tuple[Target, ...], ...]:
    """The targets of each process: functions of one file under one Python share it."""
    found: dict[Place, list[Target]] = {}
    for target in targets:
        found.setdefault((os.path.realpath(target.file), target.environment), []).append(target)
    return tuple(map(tuple, found.values()))


def run_shared(plan: Plan, listeners: Sequence[Listener]) -> None:
    """Runs a plan in the processes of its targets; each listener is called as by ``launch.run_plan``."""
    groups = groups_of(plan.targets)

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    with launch.interruptible(), ExitStack() as stack:
        members = []
        for group in groups:
            own = tuple(target.label for target in group) if len(groups) > 1 else ()
            worker = stack.enter_context(
                launch.worker_of(replace(plan, own=own), launch.worker_command(group[0].environment))
            )
            members.append(_Member(worker=worker, targets=group))
            members[-1].start(tell)
        if len(groups) == 1:
            tell(members[0].introduction)
            members[0].go_on(tell)
            return
        event = agreed(plan, [member.introduction for member in members])
        tell(event)
        for warning in told(event, [member.introduction for member in members]):
            tell(warning)
        for member in members:
            member.worker.send(json.dumps(codec.to_json(event.outline)))
        _take_turns(members, tell)


def _take_turns(members: Sequence[_Member], tell: Listener) -> None:
    for member in members:
        member.go_on(_summing(members, member, tell))
    while waiting := [member for member in members if member.step is not None]:
        first = min(waiting, key=lambda member: member.step or 0)
        first.worker.send("go")
        first.go_on(_summing(members, first, tell))


def _summing(members: Sequence[_Member], member: _Member, tell: Listener) -> Listener:
    """Progress of one process as that of all."""

    def pass_on(event: Event) -> None:
        if isinstance(event, ProgressEvent):
            member.progress = event.done, event.total
            done, total = (sum(each.progress[place] for each in members) for place in (0, 1))
            event = replace(event, done=done, total=total)
        tell(event)

    return pass_on


@dataclass(slots=True, kw_only=True)
class _Member:
    """One process: what it said of itself, the step that it waits for (None at its end), and its progress."""

    worker: launch.Worker
    targets: tuple[Target, ...]
    step: int | None = None
    progress: tuple[int, int] = (0, 0)
    said: list[EnvironmentEvent] = field(default_factory=list)

    @property
    def introduction(self) -> EnvironmentEvent:
        return self.said[0]

    def start(self, tell: Listener) -> None:
        """Reads until it says what it brings along; a process that is alone goes on at once."""
        with self._named():
            for event in self.worker.events:
                if isinstance(event, EnvironmentEvent):
                    self.said.append(event)
                    return
                tell(event)
        raise RunFailed("a worker said nothing", value=self.targets[0].place)

    def go_on(self, tell: Listener) -> None:
        """Reads until it waits for its turn, or ends."""
        self.step = None
        with self._named():
            for event in self.worker.events:
                if isinstance(event, WaitingEvent):
                    self.step = event.step
                    return
                tell(event)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Errors that do not name the file, such as that of a process that died, are of its targets."""
        try:
            yield
        except BagelPerfError as problem:
            if not problem.what.startswith("the worker"):
                raise
            names = ", ".join(target.label for target in self.targets)
            raise reworded(problem, what=f"{names}: {problem.what}") from problem


def agreed(plan: Plan, introductions: Sequence[EnvironmentEvent]) -> EnvironmentEvent:
    """What all processes compare together, on the machine that all of them run on.

    Raises ``UsageError`` where they share no case, EnvironmentUnfit where they run on unlike devices.
    """
    first = introductions[0]
    outlines = [each.outline for each in introductions if each.outline is not None]
    assert len(outlines) == len(introductions)
    by_name = {
        variant.name: replace(variant, made_with=_differing(first.environment, each.environment))
        for each, outline in zip(introductions, outlines, strict=True)
        for variant in outline.variants
    }
    for each in introductions[1:]:
        _refuse_unlike(first.environment, each.environment)
    variants = tuple(by_name[target.label] for target in plan.targets)
    outline = replace(
        outlines[0],
        subject=replace(outlines[0].subject, title=", ".join(dict.fromkeys(each.subject.title for each in outlines))),
        cases=_shared_cases(outlines),
        stages=outlines[0].stages if all(each.stages == outlines[0].stages for each in outlines) else TOGETHER,
        variants=(replace(variants[0], tolerance=None), *variants[1:]),
        num_named=len(variants),
    )
    return replace(first, outline=outline)


def _shared_cases(outlines: Sequence[Outline]) -> tuple[str, ...]:
    found = [case for case in outlines[0].cases if all(case in each.cases for each in outlines)]
    if not found:
        value = "; ".join(", ".join(each.cases) for each in outlines)
        raise UsageError("files have no case in common", value=value, remedy="give CASES of the same names")
    for each in outlines[1:]:
        for case in found:
            if unlike := _unlike_asked(outlines[0].subject.asked.get(case, {}), each.subject.asked.get(case, {})):
                what = f"case {case} asks for other things in {each.subject.title}"
                raise UsageError(what, value=unlike, remedy="a case is one request that every file answers")
    return tuple(found)


def _unlike_asked(before: Mapping[str, Scalar], after: Mapping[str, Scalar]) -> str:
    keys = dict.fromkeys((*before, *after))
    return "; ".join(
        f"{key} {before.get(key)} and {after.get(key)}" for key in keys if before.get(key) != after.get(key)
    )


def _differing(first: Environment, other: Environment) -> dict[str, Scalar]:
    names = [name for name in OF_A_VARIANT if getattr(first, name) != getattr(other, name)]
    return {name: getattr(other, name) for name in names}


def _refuse_unlike(first: Environment, other: Environment) -> None:
    names = [name for name in first.__struct_fields__ if name not in OF_A_VARIANT]
    unlike = [name for name in names if getattr(first, name) != getattr(other, name)]
    if unlike:
        value = "; ".join(f"{name} {getattr(first, name)} and {getattr(other, name)}" for name in unlike)
        raise EnvironmentUnfit("two files run on unlike devices", value=value, remedy="give both the same torch build")


def told(event: EnvironmentEvent, introductions: Sequence[EnvironmentEvent]) -> Iterator[WarningEvent]:
    """What a reader should know of stages and environments that differ."""
    names = [", ".join(each.outline.stages) for each in introductions if each.outline is not None]
    if len(set(names)) > 1:
        yield WarningEvent(text=f"stages differ ({'; '.join(names)}): compared as a whole")
    for variant in () if event.outline is None else event.outline.variants:
        if variant.made_with:
            text = ", ".join(f"{key} {value}" for key, value in variant.made_with.items())
            yield WarningEvent(text=f"{variant.name} ran with {text}")


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
