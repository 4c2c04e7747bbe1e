"""Progress on stderr, a line at most as wide as the terminal: a bar there, a line per phase in a log."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Self, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bagel_perf.records.events import EnvironmentEvent, Event, NoteEvent, ProgressEvent, WarningEvent
from bagel_perf.report.inert import Guarded, print_line, terminal
from bagel_perf.report.text import PLAIN_COLUMNS
from bagel_perf.verdicts.planning import duration_text

MAX_STEPS = 9999
MIN_WORD = 12
"""Characters that are left of a word that is shortened alone."""
BESIDE_TEXT = 26
"""Columns of a short bar, of percent and time, and between them."""
STAMP = 10
"""Columns of the time in front of a line."""
MIN_RUNS, MIN_S = 3, 5.0
"""Runs and seconds that tell how long the rest takes."""


def _console(stream: TextIO) -> Console:
    return Console(file=cast(TextIO, Guarded(stream)))


def fitted(text: str, width: int) -> str:
    """``text`` in ``width`` columns: its longest word loses its middle, or all of it where that is not enough."""
    longest = max(text.split(" "), key=len)
    room = len(longest) - (len(text) - width)
    if room >= min(MIN_WORD, len(longest)):
        return text.replace(longest, _shortened(longest, room), 1)
    return _shortened(text, width)


def _shortened(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    kept = max(width - 1, 0)
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


@dataclass(slots=True, kw_only=True)
class Pace:
    """How fast the runs of a plan pass, in each of its processes, which were ready at ``begun_s``."""

    processes: int = 1
    begun_s: list[float] = field(default_factory=list)

    def begin(self, processes: int, now_s: float) -> None:
        """A process is ready, the first or the next of so many."""
        self.processes = processes
        self.begun_s.append(now_s)

    def left_s(self, done: int, total: int, now_s: float) -> float | None:
        """Seconds until the last process ends, as if each run took as long as those before; None too early to tell.

        A further process takes as long as one before it took with its start-up, or as this one is going to.
        """
        if not self.begun_s or done < MIN_RUNS or now_s - self.begun_s[-1] < MIN_S:
            return None
        each_s = (now_s - self.begun_s[-1]) / done
        num_ended, num_more = len(self.begun_s) - 1, max(self.processes - len(self.begun_s), 0)
        whole_s = (self.begun_s[-1] - self.begun_s[0]) / num_ended if num_ended else each_s * total + self.begun_s[0]
        return each_s * (total - done) + num_more * whole_s


class _BarView:
    """A bar that is drawn in the context, where the stream is a terminal."""

    _bar: Progress | None = None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._bar is not None:
            self._bar.stop()


ON_CPU = "; latencies of a CPU say nothing about a GPU, counts and outputs do"


class ProgressView(_BarView):
    """Shows progress events and warnings of one plan; with ``quiet`` it shows nothing."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._started_s = time.monotonic()
        self._text = ""
        self._pace = Pace()
        self._task: TaskID | None = None
        if stream.isatty() and not quiet:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.percentage:3.0f}%"),
                TimeElapsedColumn(),
            )
            # A slow refresh: the worker that is being timed shares the processor.
            self._bar = Progress(*columns, console=_console(stream), transient=True, refresh_per_second=2)
            self._task = self._bar.add_task("starting the worker", total=None)

    def on_event(self, event: Event) -> None:
        """Shows an event if it is for people."""
        if self._quiet:
            return
        if isinstance(event, ProgressEvent):
            self._show(event)
        elif isinstance(event, EnvironmentEvent):
            title = "" if event.outline is None else f", {event.outline.subject.title}"
            is_cpu = event.outline is not None and event.environment.device_kind == "cpu"
            self._line(f"{event.environment.device_name}{title}{ON_CPU * is_cpu}")
            self._pace.begin(event.processes, self._now_s)
        elif isinstance(event, WarningEvent):
            self._line(f"warning: {event.text}")
        elif isinstance(event, NoteEvent):
            self._line(event.text)

    @property
    def _now_s(self) -> float:
        return time.monotonic() - self._started_s

    def _show(self, event: ProgressEvent) -> None:
        left_s = self._pace.left_s(event.done, event.total, self._now_s)
        left = "" if left_s is None else f", about {duration_text(left_s)} left"
        if self._bar is not None and self._task is not None:
            description = fitted(f"{terminal(event.text)}{left}", self._bar.console.width - BESIDE_TEXT)
            self._bar.update(self._task, description=description, completed=event.done, total=event.total)
        elif event.text != self._text:
            self._text = event.text
            # A larger total counts bytes.
            place = f"{event.done + 1}/{event.total}" if event.total <= MAX_STEPS else f"{event.done / event.total:.0%}"
            head = f"[{place}{left}] "
            self._line(head + fitted(terminal(event.text), PLAIN_COLUMNS - STAMP - len(head)))

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(terminal(text), markup=False, highlight=False)
        else:
            print_line(f"{self._now_s:6.1f} s  {text}", self._stream)


class ReadingView(_BarView):
    """Shows how much of a file is read, where the stream is a terminal."""

    def __init__(self, stream: TextIO, name: str, *, quiet: bool = False) -> None:
        if stream.isatty() and not quiet:
            columns = (
                TextColumn("reading {task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.percentage:3.0f}%"),
            )
            self._bar = Progress(*columns, console=_console(stream), transient=True, refresh_per_second=4)
            self._task = self._bar.add_task(fitted(terminal(name), self._bar.console.width - BESIDE_TEXT), total=None)

    def on_progress(self, done: int, total: int) -> None:
        """Moves the bar to ``done`` of ``total`` bytes."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
