"""A client that never ends the head of its request is let go; one that is quick keeps its connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvicorn

from bagel_perf.serve import connections
from bagel_perf.serve.connections import TimelyProtocol

HEAD = b"GET / HTTP/1.1\r\nHost: here\r\n"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def talk_with_server(talk: Talk, **options: Any) -> None:
    """Runs ``talk`` with a connection to a server of this protocol."""

    async def run() -> None:
        config = uvicorn.Config(application, http=TimelyProtocol, ws="none", lifespan="off", port=0, **options)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.wait_for(talk(reader, writer), 10)
        finally:
            writer.close()
            server.should_exit = True
            await task

    asyncio.run(run())


@pytest.fixture(autouse=True)
def short_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.3)


@pytest.mark.parametrize("sent", [b"", HEAD])
def test_a_head_that_does_not_end_closes_the_connection(sent: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun_s = time.monotonic()
        writer.write(sent)
        assert await reader.read() == b""
        assert 0.2 < time.monotonic() - begun_s < 5

    talk_with_server(talk)


def test_a_head_that_drips_closes_the_connection() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended = asyncio.create_task(reader.read())
        for byte in HEAD * 4:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)
            if ended.done():
                break
        assert ended.done() and ended.result() == b""

    talk_with_server(talk)


def test_a_second_head_on_a_kept_connection_has_its_time_too() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            writer.write(HEAD + b"\r\n")
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.4)  # longer than a head may take: nothing is under way
        writer.write(HEAD)
        assert await reader.read() == b""

    talk_with_server(talk)


def test_connections_are_bounded() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 503")

    talk_with_server(talk, limit_concurrency=1)
