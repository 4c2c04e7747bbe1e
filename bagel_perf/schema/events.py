"""What the worker process sends while it runs: one JSON object a line."""

from __future__ import annotations

import json
from typing import TypeAlias

import msgspec

from bagel_perf.schema import codec
from bagel_perf.schema.errors import BagelPerfError, UsageError
from bagel_perf.schema.floors import Ceilings, StageFloor
from bagel_perf.schema.outlines import Outline
from bagel_perf.schema.results import CaseInput
from bagel_perf.schema.runs import Environment, Run, TensorCheck
from bagel_perf.schema.syncs import SyncReport
from bagel_perf.schema.version1 import upgraded_event


class EnvironmentEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="environment"):
    """The first event: where the plan runs, and how many rounds, warm-ups and processes it takes in all.

    ``outline`` is what a comparison compares; ``notes`` are what limits counts there.
    """

    environment: Environment
    outline: Outline | None = None
    pairs: int
    warmup: int
    processes: int = 1
    notes: tuple[str, ...] = ()


class ProgressEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="progress"):
    """What is about to be done, and how much of the total is behind."""

    text: str
    done: int
    total: int


class WaitingEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="waiting"):
    """A process that shares a comparison waits for its turn at this step of the common schedule."""

    step: int


class InputEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="input"):
    """What a case brings along, as a picture that is to be edited, in the form in which the subject takes it."""

    input: CaseInput


class RunEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="run"):
    """A run has ended."""

    run: Run


class TensorEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="tensor"):
    """A golden tensor was checked."""

    check: TensorCheck


class SyncsEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="syncs"):
    """A request was watched."""

    report: SyncReport


class FloorsEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="floors"):
    """The GPU's ceilings were measured, and the floor of each stage follows."""

    ceilings: Ceilings
    floors: tuple[StageFloor, ...]


class WarningEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="warning"):
    """Something that the user should know and that stops nothing."""

    text: str


class NoteEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="note"):
    """Something that the user should know, such as what is to come."""

    text: str


class ErrorEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="error"):
    """The last event of a plan that could not be finished."""

    error: BagelPerfError


class FailedEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="failed"):
    """A variant of the gate could not be finished; the others go on."""

    variant: str
    error: BagelPerfError


class DoneEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="done"):
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


def to_line(event: Event) -> str:
    """The event as one line of JSON, without the line's end."""
    return json.dumps(codec.to_json(event))


def parse_event(line: str) -> Event:
    """The event of a line; ``UsageError`` when the line holds none."""
    try:
        data = json.loads(line)
    except ValueError as problem:
        raise UsageError("line is no event", value=line.strip()[:80]) from problem
    if not isinstance(data, dict):
        raise UsageError("line is no event", value=line.strip()[:80])
    event: Event = codec.from_json(Event, upgraded_event(data))
    return event
