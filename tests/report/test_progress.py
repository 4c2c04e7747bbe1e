"""Progress is a line per phase in a log, a bar on a terminal, and nothing when quiet."""

from __future__ import annotations

import io

import pytest

from bagel_perf.report.progress import ProgressView
from bagel_perf.schema.events import EnvironmentEvent, Event, ProgressEvent, WarningEvent
from scripted import CPU

EVENTS: tuple[Event, ...] = (
    ProgressEvent(text="reading weights", done=500_000, total=1_000_000),
    ProgressEvent(text="reading weights", done=600_000, total=1_000_000),
    EnvironmentEvent(environment=CPU, pairs=1, warmup=0),
    ProgressEvent(text="round 1", done=0, total=2),
    WarningEvent(text="[hot]"),
    ProgressEvent(text="round 2", done=1, total=2),
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, *, quiet: bool = False) -> str:
    with ProgressView(stream, quiet=quiet) as view:
        for event in EVENTS:
            view.on_event(event)
    return stream.getvalue()


def test_a_log_has_one_line_per_phase() -> None:
    lines = [line.split(" s  ")[1] for line in shown(io.StringIO()).splitlines()]
    assert lines == [
        "[50%] reading weights",
        "2 cores, tiny preset, cudnn attention",
        "[1/2] round 1",
        "warning: [hot]",
        "[2/2] round 2",
    ]


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    text = shown(Terminal())
    assert "round 2" in text
    assert "warning: [hot]" in text
    assert "\x1b[" in text


def test_quiet_shows_nothing() -> None:
    assert shown(io.StringIO(), quiet=True) == shown(Terminal(), quiet=True) == ""
