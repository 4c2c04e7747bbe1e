"""What the worker process sends while it runs: one JSON object a line, of which a result grows.

A run that is killed so loses nothing that it had measured. The first line of the kept file is the head, the others are
the events with pictures as they were kept; the file is removed when the result is written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

import msgspec

from bagel_perf.records import codec
from bagel_perf.records.codec import parse_json
from bagel_perf.records.errors import BagelPerfError, UsageError
from bagel_perf.records.loads import Load
from bagel_perf.records.outlines import Outline
from bagel_perf.records.plans import Plan
from bagel_perf.records.results import LINES_FILE, CaseInput, Ceilings, StageFloor, result_file
from bagel_perf.records.runs import Environment, Run, TensorCheck
from bagel_perf.records.syncs import SyncReport
from bagel_perf.records.version1 import in_words, upgraded_event

SCHEMA = "bagel-perf.runs"
VERSION = 2


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What is known before the first event: the plan, the command line, and when it began."""

    plan: Plan
    command: str
    created: str

    def to_line(self) -> str:
        """The head as one line of JSON, without the line's end."""
        return json.dumps({"schema": SCHEMA, "version": VERSION, **codec.to_json(self)})


def lines_file(path: Path) -> Path | None:
    """The lines of an unfinished result that ``path`` names, itself or in a folder; None where there are none."""
    found = result_file(path)
    return found if found.name == LINES_FILE and found.is_file() else None


def read_lines(path: Path) -> tuple[Head, tuple[Event, ...]]:
    """The head and the events; a last line that was cut off by the end is left out. Raises ``UsageError``."""
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise UsageError("unfinished result cannot be read", value=path, allowed=problem.strerror or "") from problem
    first, *others = content.decode("utf-8", errors="replace").split("\n")[:-1] or [""]
    try:
        found = dict(codec.check_header(parse_json(first), SCHEMA, VERSION))
        if isinstance(found.get("plan"), dict):
            found["plan"] = in_words(found["plan"])
        head = codec.from_json(Head, found)
        return head, tuple(parse_event(line) for line in others)
    except (ValueError, OverflowError, RecursionError) as problem:
        raise UsageError("unfinished result is not usable", value=path, allowed=str(problem)) from problem


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


class LoadEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="load"):
    """A server was put under a level of load."""

    load: Load


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
    | LoadEvent
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
        data = parse_json(line)
    except (ValueError, RecursionError) as problem:
        raise UsageError("line is no event", value=line.strip()[:80]) from problem
    if not isinstance(data, dict):
        raise UsageError("line is no event", value=line.strip()[:80])
    event: Event = codec.from_json(Event, upgraded_event(data))
    return event
