"""A result while it grows: a line for each event, so that a run that is killed loses nothing that it had measured.

The first line is the head, the others are the events of the worker with pictures as they were kept. The file is
removed when the result is written.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from bagel_perf.schema import codec
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.events import Event, parse_event
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.results import LINES_FILE, result_file
from bagel_perf.schema.strict_json import parse_json

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
        head = codec.from_json(Head, codec.check_header(parse_json(first), SCHEMA, VERSION))
        return head, tuple(parse_event(line) for line in others)
    except (ValueError, OverflowError, RecursionError) as problem:
        raise UsageError("unfinished result is not usable", value=path, allowed=str(problem)) from problem
