"""Follows the streams of an entry: a capture takes in a side stream that waits for it, and has to wait for it in turn.

Work on a stream that does not wait for the capturing one is captured by nobody: it runs while the capture is under way,
and no replay runs it again. A captured stream may not wait for such work.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch

from bagel_perf.rules.own_folders import MEASURING_FOLDERS

Current = Callable[[], Any]
"""The stream that this thread is on."""
Told = Callable[[Any, Any, bool], None]
"""Called with an event, a stream, and whether the event was recorded there rather than waited for."""


class Streams:
    """How far the streams of one entry have come, by their handles, and what each has waited for."""

    def __init__(self, main: int) -> None:
        self.main = main
        self._worked: dict[int, int] = {main: 0}
        self._waited: dict[int, dict[int, int]] = {main: {}}
        # Keeps the events: a weak reference to one of torch's own breaks the process when the event is freed.
        self._recorded: dict[int, tuple[Any, dict[int, int]]] = {}

    def works(self, stream: int) -> bool:
        """Takes note of work on a stream; gives whether the capture has it."""
        if stream in self._worked:
            self._worked[stream] += 1
        return stream in self._worked

    def event(self, event: Any, stream: int, is_record: bool) -> bool:
        """Takes note of an event that a stream records, or waits for; gives whether a capture allows that."""
        if is_record:
            self._recorded.pop(id(event), None)
            if stream in self._worked:
                self._recorded[id(event)] = event, {**self._waited[stream], stream: self._worked[stream]}
            return True
        if id(event) not in self._recorded:
            return stream not in self._worked or not event.cuda_event  # nobody waits for what was never recorded
        _, covered = self._recorded[id(event)]
        self._worked[stream] = self._worked.get(stream, 0) + (stream != self.main)
        known = self._waited.setdefault(stream, {})
        for other, work in covered.items():
            known[other] = max(work, known.get(other, 0))
        return True

    def unjoined(self) -> int:
        """How many side streams the capturing one has not waited for to their end."""
        joined = self._waited[self.main]
        return sum(work > joined.get(stream, 0) for stream, work in self._worked.items() if stream != self.main)


@contextmanager
def events_to(told: Told, current: Current) -> Iterator[None]:
    """``told`` hears of each event that is recorded or waited for, by way of streams as well."""
    kind = torch.cuda.Event

    def telling(method: Any, *, is_record: bool) -> Any:
        @functools.wraps(method)
        def tell(event: Any, stream: Any = None) -> None:
            told(event, current() if stream is None else stream, is_record)
            method(event, stream)

        return tell

    with (
        mock.patch.object(kind, "record", telling(kind.record, is_record=True)),
        mock.patch.object(kind, "wait", telling(kind.wait, is_record=False)),
    ):
        yield


@contextmanager
def queries_to(told: Callable[[], None]) -> Iterator[None]:
    """``told`` hears of each question of the program whether an event or a stream is done."""

    def telling(method: Any) -> Any:
        @functools.wraps(method)
        def tell(asked: Any) -> bool:
            if not sys._getframe(1).f_code.co_filename.startswith(MEASURING_FOLDERS):
                told()
            done: bool = method(asked)
            return done

        return tell

    event, stream = torch.cuda.Event, torch.cuda.Stream
    with (
        mock.patch.object(event, "query", telling(event.query)),
        mock.patch.object(stream, "query", telling(stream.query)),
    ):
        yield
