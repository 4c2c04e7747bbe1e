"""The errors of reading a trace, each one line with what is allowed and a remedy."""

from __future__ import annotations

from pathlib import Path

from bagel_perf.schema.errors import UsageError

READABLE = "a torch.profiler trace (JSON with traceEvents, gzipped or not) or an Nsight Systems sqlite export"
RECORD = "record one with prof.export_chrome_trace(PATH) or nsys export --type sqlite"
COPY_AGAIN = "copy or export it again"


def foreign(path: Path) -> UsageError:
    """The file is something else."""
    return UsageError("file is no trace", value=path, allowed=READABLE, remedy=RECORD)


def empty(path: Path) -> UsageError:
    """The file has no bytes, or its trace no events of a known kind."""
    return UsageError("trace is empty", value=path, allowed=READABLE, remedy=RECORD)


def unreadable(path: Path, reason: str) -> UsageError:
    """The system does not give the file."""
    return UsageError("trace cannot be read", value=path, allowed=reason, remedy=RECORD)


def cut_off(path: Path, num_bytes: int) -> UsageError:
    """The file ends in the middle, after ``num_bytes`` of (unpacked) text."""
    allowed = f"the text ends unfinished after {num_bytes} bytes"
    return UsageError("trace is cut off", value=path, allowed=allowed, remedy=COPY_AGAIN)


def damaged(path: Path, position: int | None = None) -> UsageError:
    """The file is of the right kind and cannot be read on."""
    allowed = "it cannot be unpacked" if position is None else f"it is no JSON near byte {position}"
    return UsageError("trace is damaged", value=path, allowed=allowed, remedy=COPY_AGAIN)


def too_deep(path: Path) -> UsageError:
    """The text nests values more deeply than any writer of traces."""
    allowed = "its lists and objects are nested too deeply"
    return UsageError("trace is damaged", value=path, allowed=allowed, remedy=COPY_AGAIN)


def wrong_value(path: Path, what: str) -> UsageError:
    """A value shows that the trace was not written by what recorded it."""
    return UsageError("trace has a value that cannot be", value=path, allowed=what, remedy=RECORD)


def timeless(path: Path) -> UsageError:
    """No event has a time that a trace can have."""
    allowed = "ts and dur count microseconds"
    return UsageError("no time in the trace can be read", value=path, allowed=allowed, remedy=RECORD)
