"""The line of requests: its bound, its order, who leaves it, and how it closes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from bagel_perf.serve.line import Line
from bagel_perf.serve.refusals import ApiError


class Device:
    """Makes of a number its double, once it is let; remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[int] = []
        self.open = threading.Event()

    def make(self, number: int) -> int:
        self.given.append(number)
        assert self.open.wait(10)
        if number < 0:
            raise MemoryError("out of memory")
        return 2 * number


async def asked(line: Line[int, int], number: int) -> int:
    with line.admitted():
        return (await line.made(number))[0]


def run(scene: Callable[[Line[int, int], Device], Coroutine[Any, Any, None]], max_waiting: int = 2) -> Device:
    device = Device()

    async def main() -> None:
        await scene(Line(device.make, 1, max_waiting), device)

    asyncio.run(main())
    return device


async def begun(*coroutines: Coroutine[Any, Any, int]) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(each) for each in coroutines]
    await asyncio.sleep(0.05)
    return tasks


def test_requests_run_one_at_a_time_in_their_order() -> None:
    async def scene(line: Line[int, int], device: Device) -> None:
        tasks = await begun(*(asked(line, number) for number in (1, 2, 3)))
        assert device.given == [1] and (line.num_running, line.num_waiting) == (1, 2)
        device.open.set()
        assert list(await asyncio.gather(*tasks)) == [2, 4, 6]
        assert (line.num_running, line.num_waiting) == (0, 0)

    assert run(scene).given == [1, 2, 3]


def test_beyond_the_bound_a_request_is_told_when_to_come_back() -> None:
    async def scene(line: Line[int, int], device: Device) -> None:
        tasks = await begun(*(asked(line, number) for number in (1, 2, 3)))
        with pytest.raises(ApiError) as caught:
            await asked(line, 4)
        assert caught.value.status == 429 and caught.value.retry_after_s is not None
        device.open.set()
        await asyncio.gather(*tasks)
        assert await asked(line, 4) == 8

    run(scene)


def test_who_leaves_while_waiting_is_never_run_and_gives_up_the_place() -> None:
    async def scene(line: Line[int, int], device: Device) -> None:
        first, second, third = await begun(*(asked(line, number) for number in (1, 2, 3)))
        second.cancel()
        await asyncio.sleep(0)
        assert line.num_waiting == 1
        (fourth,) = await begun(asked(line, 4))
        device.open.set()
        assert list(await asyncio.gather(first, third, fourth)) == [2, 6, 8]

    assert run(scene).given == [1, 3, 4]


def test_who_leaves_while_running_still_takes_the_device() -> None:
    async def scene(line: Line[int, int], device: Device) -> None:
        (first,) = await begun(asked(line, 1))
        first.cancel()
        await asyncio.sleep(0)
        with pytest.raises(ApiError, match="come back later"):
            await asked(line, 2)
        device.open.set()
        while line.num_running:
            await asyncio.sleep(0.01)
        assert await asked(line, 3) == 6

    run(scene, max_waiting=0)


def test_one_that_fails_fails_alone() -> None:
    async def scene(line: Line[int, int], device: Device) -> None:
        device.open.set()
        tasks = await begun(*(asked(line, number) for number in (1, -2, 3)))
        first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
        assert (first, third) == (2, 6) and isinstance(second, MemoryError)

    run(scene)


def test_draining_finishes_who_is_in_and_lets_nobody_in() -> None:
    async def scene(line: Line[int, int], device: Device) -> None:
        tasks = await begun(*(asked(line, number) for number in (1, 2)))
        drained = asyncio.create_task(line.drain(10))
        await asyncio.sleep(0.05)
        with pytest.raises(ApiError) as caught:
            await asked(line, 3)
        assert caught.value.status == 503 and not drained.done()
        device.open.set()
        assert list(await asyncio.gather(*tasks)) == [2, 4]
        await drained

    assert run(scene).given == [1, 2]


def test_draining_refuses_who_still_waits_at_the_bound_and_finishes_what_runs() -> None:
    async def scene(line: Line[int, int], device: Device) -> None:
        first, second = await begun(*(asked(line, number) for number in (1, 2)))
        drained = asyncio.create_task(line.drain(0.01))
        with pytest.raises(ApiError, match="shutting down"):
            await second
        assert not drained.done()
        device.open.set()
        await drained
        assert await first == 2

    assert run(scene).given == [1]
