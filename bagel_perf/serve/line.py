"""The line in which requests wait for the device: bounded, first come first served, left when the client leaves."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Generic, TypeVar

from bagel_perf.serve.refusals import ApiError

Inputs = TypeVar("Inputs")
Output = TypeVar("Output")

MAX_RETRY_S = 600
_WEIGHT_OF_LAST = 0.2
_LOOK_S = 0.02


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Inputs, Output]):
    inputs: Inputs
    answer: asyncio.Future[tuple[Output, float]]
    since_s: float = field(default_factory=time.perf_counter)


class Line(Generic[Inputs, Output]):
    """Runs ``make`` in ``num_at_once`` threads; at most ``max_waiting`` more requests are admitted.

    Belongs to the event loop in which it was made; the loop stays free while a thread works.
    """

    def __init__(self, make: Callable[[Inputs], Output], num_at_once: int, max_waiting: int) -> None:
        self._make = make
        self._num_at_once = num_at_once
        self._max_admitted = num_at_once + max_waiting
        self._num_admitted = 0
        self._threads = ThreadPoolExecutor(max_workers=num_at_once, thread_name_prefix="device")
        self._waiting: deque[_Waiting[Inputs, Output]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._usual_s: float | None = None
        self.is_draining = False

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Holds a place from the arrival of a request to its answer.

        Raises ``ApiError``: 429 with the time to come back where the line is full, 503 where it closes.
        """
        if self.is_draining:
            raise _closing()
        # One whose client has left while it ran still takes its thread.
        num_abandoned = max(0, self.num_running - self._num_admitted)
        if self._num_admitted + num_abandoned >= self._max_admitted:
            raise ApiError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self._num_admitted} requests are under way or waiting; come back later",
                code="queue_full",
                retry_after_s=self._retry_after_s(),
            )
        self._num_admitted += 1
        try:
            yield
        finally:
            self._num_admitted -= 1

    async def made(self, inputs: Inputs) -> tuple[Output, float]:
        """The output, and how long it waited, in ms; cancelled, it leaves the line unless it runs already."""
        waiting: _Waiting[Inputs, Output] = _Waiting(inputs, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._advance()
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            raise

    async def drain(self, limit_s: float) -> None:
        """Lets nobody in, waits for those who are in for ``limit_s``, then refuses who waits and ends what runs."""
        self.is_draining = True
        end_s = time.perf_counter() + limit_s
        while self._num_admitted and time.perf_counter() < end_s:
            await asyncio.sleep(_LOOK_S)
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():
                waiting.answer.set_exception(_closing())
        await asyncio.gather(*self._running, return_exceptions=True)
        self._threads.shutdown()

    def _advance(self) -> None:
        while self._waiting and len(self._running) < self._num_at_once:
            task = asyncio.create_task(self._run(self._waiting.popleft()))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._advance()

    async def _run(self, waiting: _Waiting[Inputs, Output]) -> None:
        start_s = time.perf_counter()
        try:
            output = await asyncio.get_running_loop().run_in_executor(self._threads, self._make, waiting.inputs)
        except Exception as error:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)
            return
        took_s = time.perf_counter() - start_s
        former_s = took_s if self._usual_s is None else self._usual_s
        self._usual_s = former_s + _WEIGHT_OF_LAST * (took_s - former_s)
        if not waiting.answer.done():
            waiting.answer.set_result((output, (start_s - waiting.since_s) * 1e3))

    def _retry_after_s(self) -> int:
        """When half of those who are in should be through, as recent requests took."""
        ahead = self._num_admitted / self._num_at_once / 2
        return min(MAX_RETRY_S, max(1, math.ceil(ahead * (self._usual_s or 1.0))))


def _closing() -> ApiError:
    message = "the server is shutting down"
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, code="shutting_down", retry_after_s=10)
