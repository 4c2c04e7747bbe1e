"""What the worker process sends while it runs: one JSON object a line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeAlias

from bagel_perf.schema import codec
from bagel_perf.schema.errors import BagelPerfError, UsageError, error_from_json, error_to_json
from bagel_perf.schema.floors import Ceilings, StageFloor
from bagel_perf.schema.outlines import Outline
from bagel_perf.schema.results import CaseInput
from bagel_perf.schema.runs import Environment, Run, TensorCheck
from bagel_perf.schema.syncs import SyncReport
from bagel_perf.schema.version1 import upgraded_event


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentEvent:
    """The first event: where the plan runs, and how many rounds, warm-ups and processes it takes in all.

    ``outline`` is what a comparison compares; ``notes`` are what limits counts there.
    """

    environment: Environment
    outline: Outline | None = None
    pairs: int
    warmup: int
    processes: int = 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressEvent:
    """What is about to be done, and how much of the total is behind."""

    text: str
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingEvent:
    """A process that shares a comparison waits for its turn at this step of the common schedule."""

    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InputEvent:
    """What a case brings along, as a picture that is to be edited, in the form in which the subject takes it."""

    input: CaseInput


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """A run has ended."""

    run: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEvent:
    """A golden tensor was checked."""

    check: TensorCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncsEvent:
    """A request was watched."""

    report: SyncReport


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorsEvent:
    """The GPU's ceilings were measured, and the floor of each stage follows."""

    ceilings: Ceilings
    floors: tuple[StageFloor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningEvent:
    """Something that the user should know and that stops nothing."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteEvent:
    """Something that the user should know, such as what is to come."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorEvent:
    """The last event of a plan that could not be finished."""

    error: BagelPerfError


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEvent:
    """A variant of the gate could not be finished; the others go on."""

    variant: str
    error: BagelPerfError


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneEvent:
    """The last event of a plan that was finished."""


Event: TypeAlias = (
    EnvironmentEvent
    | ProgressEvent
    | WaitingEvent
    | InputEvent
    | RunEvent
    | TensorEvent
    | SyncsEvent
    | FloorsEvent
    | WarningEvent
    | NoteEvent
    | ErrorEvent
    | FailedEvent
    | DoneEvent
)

_CLASS_BY_NAME: dict[str, type[Event]] = {
    "environment": EnvironmentEvent,
    "progress": ProgressEvent,
    "waiting": WaitingEvent,
    "input": InputEvent,
    "run": RunEvent,
    "tensor": TensorEvent,
    "syncs": SyncsEvent,
    "floors": FloorsEvent,
    "warning": WarningEvent,
    "note": NoteEvent,
    "error": ErrorEvent,
    "failed": FailedEvent,
    "done": DoneEvent,
}
_NAME_BY_CLASS = {event_class: name for name, event_class in _CLASS_BY_NAME.items()}


def to_line(event: Event) -> str:
    """The event as one line of JSON, without the line's end."""
    if isinstance(event, FailedEvent):
        fields = {"variant": event.variant, "error": error_to_json(event.error)}
    elif isinstance(event, ErrorEvent):
        fields = {"error": error_to_json(event.error)}
    else:
        fields = codec.to_json(event)
    return json.dumps({"event": _NAME_BY_CLASS[type(event)], **fields})


def parse_event(line: str) -> Event:
    """The event of a line; ``UsageError`` when the line holds none."""
    try:
        data = json.loads(line)
    except ValueError as problem:
        raise UsageError("line is no event", value=line.strip()[:80]) from problem
    name = data.get("event") if isinstance(data, dict) else None
    if not isinstance(name, str) or name not in _CLASS_BY_NAME:
        raise UsageError("line is no event", value=line.strip()[:80], allowed=", ".join(_CLASS_BY_NAME))
    if name == "error":
        return ErrorEvent(error=error_from_json(data.get("error")))
    if name == "failed":
        return FailedEvent(variant=str(data.get("variant")), error=error_from_json(data.get("error")))
    return codec.from_json(_CLASS_BY_NAME[name], upgraded_event(data))
