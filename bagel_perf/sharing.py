"""Runs a comparison whose variants live in processes of their own: one file each, perhaps under other Pythons.

The processes walk through one schedule and wait before each step that is theirs. Whichever waits for the earliest step
goes on; so one of them runs at a time, in the order that the common seed draws.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from msgspec.structs import replace

from bagel_perf import launch
from bagel_perf.schema import codec
from bagel_perf.schema.errors import BagelPerfError, EnvironmentUnfit, RunFailed, UsageError, reworded
from bagel_perf.schema.events import EnvironmentEvent, Event, ProgressEvent, WaitingEvent, WarningEvent
from bagel_perf.schema.outlines import TOGETHER, Outline, Scalar
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.runs import Environment
from bagel_perf.schema.targets import Target

Listener = Callable[[Event], None]
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
