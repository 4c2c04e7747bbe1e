"""Progress is a line per phase in a log, a bar on a terminal, and nothing when quiet."""

from __future__ import annotations

import io

import pytest

from bagel_perf.records.events import EnvironmentEvent, Event, ProgressEvent, WarningEvent
from bagel_perf.records.runs import Environment
from bagel_perf.report.progress import Pace, ProgressView
from scripted import CPU, ENVIRONMENT, make_outline, make_plan

EVENTS: tuple[Event, ...] = (
    ProgressEvent(text="reading weights", done=500_000, total=1_000_000),
    ProgressEvent(text="reading weights", done=600_000, total=1_000_000),
    EnvironmentEvent(environment=CPU, outline=make_outline(make_plan()), pairs=1, warmup=0),
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
        "2 cores, 7b preset; latencies of a CPU say nothing about a GPU, counts and outputs do",
        "[1/2] round 1",
        "warning: [hot]",
        "[2/2] round 2",
    ]


@pytest.mark.parametrize(("environment", "line"), [(CPU, "2 cores"), (ENVIRONMENT, "NVIDIA H200")])
def test_a_worker_that_tells_no_outline_tells_its_device(environment: Environment, line: str) -> None:
    stream = io.StringIO()
    ProgressView(stream).on_event(EnvironmentEvent(environment=environment, pairs=1, warmup=0))
    assert stream.getvalue().split(" s  ")[1] == f"{line}\n"


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    text = shown(Terminal())
    assert "round 2" in text
    assert "warning: [hot]" in text
    assert "\x1b[" in text


def test_quiet_shows_nothing() -> None:
    assert shown(io.StringIO(), quiet=True) == shown(Terminal(), quiet=True) == ""


def test_the_rest_takes_as_long_as_the_runs_before_and_the_processes_that_come() -> None:
    pace = Pace()
    assert pace.left_s(5, 10, 60.0) is None  # nothing is ready yet
    pace.begin(3, 4.0)
    assert pace.left_s(2, 10, 24.0) is None and pace.left_s(3, 10, 8.0) is None  # too early to tell
    assert pace.left_s(5, 10, 24.0) == 5 * 4.0 + 2 * (4.0 + 10 * 4.0)
    pace.begin(3, 50.0)
    assert pace.left_s(4, 8, 58.0) == 4 * 2.0 + 46.0
    pace.begin(3, 80.0)
    assert pace.left_s(4, 8, 90.0) == 4 * 2.5


def test_a_log_says_how_much_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = iter((0.0, *(10.0 * count for count in range(100))))
    monkeypatch.setattr("bagel_perf.report.progress.time.monotonic", lambda: next(now_s))
    with ProgressView(stream := io.StringIO()) as view:
        view.on_event(EnvironmentEvent(environment=CPU, outline=make_outline(make_plan()), pairs=1, warmup=0))
        for done in range(6):
            view.on_event(ProgressEvent(text=f"run {done}", done=done, total=20))
    lines = stream.getvalue().splitlines()
    assert "left" not in lines[3] and " left] run 4" in lines[5] and "[5/20, about " in lines[5]
