"""Where a result comes from: on what, with what, of which code, when, and by which command."""

from __future__ import annotations

import datetime

from bagel_perf.report.inert import markdown, markdown_code
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.results import Result
from bagel_perf.schema.runs import Environment


def provenance_line(result: Result) -> str:
    """All that a repetition needs, in one line of Markdown."""
    subject = result.subject
    weights = f"weights: {subject.details['weights']}" if "weights" in subject.details else ""
    parts = f"Measured on {source_text(result)}", weights, subject.summary, f"seed {result.seed}"
    where = markdown("; ".join(filter(None, parts[:2])) + "; " + ", ".join(filter(None, parts[2:])))
    return f"{where}; {markdown_code(result.command)}"


def source_text(result: Result) -> str:
    """Device, torch, commit and day."""
    environment = result.environment
    commit = commit_text(environment)
    return f"{environment.device_name}, torch {environment.torch}, {commit}, {utc_date(result)} UTC"


def commit_text(environment: Environment) -> str:
    """The commit, and whether it names all that was measured: that a tree was clean is said only where it was seen."""
    if environment.commit is None:
        return "no commit"
    states = {True: " (uncommitted changes)", None: " (tree state unknown)", False: ""}
    return f"commit {environment.commit}{states[environment.dirty]}"


def utc_date(result: Result) -> str:
    """The day on which a result was made, as ``2026-01-31``, in UTC wherever it was made; ``UsageError`` for none."""
    try:
        created = datetime.datetime.fromisoformat(result.created)
    except ValueError as problem:
        raise UsageError("result has no date", value=result.created, allowed="ISO 8601 is expected") from problem
    return (created if created.tzinfo is None else created.astimezone(datetime.UTC)).date().isoformat()
