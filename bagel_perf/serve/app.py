"""The routes: each request is admitted, read, prepared, made in its turn and answered, and has one line in the log."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from bagel_perf.serve import asking
from bagel_perf.serve.answers import chat_answer, images_answer, measurements, models_answer
from bagel_perf.serve.asking import Asked, Limits, asked_of
from bagel_perf.serve.bodies import discard, read_form, read_json
from bagel_perf.serve.line import Line
from bagel_perf.serve.making import Made, Preparing
from bagel_perf.serve.refusals import GONE, ApiError
from bagel_perf.serve.tallies import Tallies
from bagel_perf.subjects.bagel.edit import RequestInputs

Log = Callable[[str], None]
Handler = Callable[[Request], Awaitable[Response]]

NUM_PREPARING = 2
"""Threads that read pictures and resize them; more would hold more of them in memory."""
MAX_LOGGED = 500


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


@dataclass(slots=True, kw_only=True)
class Service:
    """What all requests share."""

    line: Line[RequestInputs, Made]
    preparing: Preparing
    limits: Limits
    variant: str
    max_bytes: int
    api_key: str | None
    log: Log
    tallies: Tallies = field(init=False)
    _threads: ThreadPoolExecutor = field(init=False)
    _since: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.tallies = Tallies(lambda: self.line.num_waiting, lambda: self.line.num_running)
        self._threads = ThreadPoolExecutor(max_workers=NUM_PREPARING, thread_name_prefix="inputs")

    def app(self) -> Starlette:
        """Makes the application."""
        routes = [
            self._route("/v1/chat/completions", "POST", self._making("chat"), is_guarded=True),
            self._route("/v1/images/edits", "POST", self._making("edits"), is_guarded=True),
            self._route("/v1/images/generations", "POST", self._making("generations"), is_guarded=True),
            self._route("/v1/models", "GET", self._models, is_guarded=True),
            self._route("/health", "GET", self._health),
            self._route("/metrics", "GET", self._metrics),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: self._no_such_route})

    def _route(self, path: str, method: str, handler: Handler, *, is_guarded: bool = False) -> Route:
        async def answered(request: Request) -> Response:
            start_s = time.perf_counter()
            reason = ""
            try:
                if is_guarded:
                    self._check_key(request)
                response = await handler(request)
            except ApiError as error:
                reason, response = error.message, error.response()
                await discard(request, self.max_bytes)
            except (ClientGone, ClientDisconnect):
                reason, response = "the client has gone", Response(status_code=GONE)
            except Exception as error:  # out of memory, a bug: the next request is another
                reason, response = _failed(error)
            self._record(request, path, response.status_code, start_s, reason)
            return response

        return Route(path, answered, methods=[method])

    def _record(self, request: Request, route: str, status: int, start_s: float, reason: str) -> None:
        self.tallies.count(route, status)
        if status < HTTPStatus.BAD_REQUEST and request.method == "GET":
            return
        took_ms = (time.perf_counter() - start_s) * 1e3
        self.log(f"{request.method} {request.url.path} {status} {took_ms:.0f} ms {reason}"[:MAX_LOGGED])

    async def _no_such_route(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        known = error.status_code == HTTPStatus.METHOD_NOT_ALLOWED
        code = "method_not_allowed" if known else "not_found"
        message = f"{request.method} {request.url.path}: {error.detail}"
        refusal = ApiError(error.status_code, message, code=code)
        self._record(request, "other", error.status_code, time.perf_counter(), error.detail)
        response = refusal.response()
        response.headers.update(error.headers or {})
        return response

    def _check_key(self, request: Request) -> None:
        if self.api_key is None:
            return
        given = request.headers.get("authorization", "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, f"Bearer {self.api_key}".encode()):
            message = "the API key is missing or wrong; Authorization: Bearer KEY"
            raise ApiError(HTTPStatus.UNAUTHORIZED, message, code="invalid_api_key")

    def _making(self, route: asking.Route) -> Handler:
        async def handler(request: Request) -> Response:
            start_s = time.perf_counter()
            with self.line.admitted():
                read = read_form if route == "edits" else read_json
                asked = asked_of(route, await read(request, self.max_bytes), self.limits)
                made, queue_wait_ms = await _unless_gone(request, self._made(asked))
            self.tallies.observe(made, queue_wait_ms, time.perf_counter() - start_s)
            measured = measurements(made, queue_wait_ms)
            if route == "chat":
                body = chat_answer(self.limits.model, made, measured, wants_metrics=asked.wants_metrics)
            else:
                body = images_answer(asked.request, made, measured)
            return _json(body)

        return handler

    async def _made(self, asked: Asked) -> tuple[Made, float]:
        loop = asyncio.get_running_loop()
        inputs = await loop.run_in_executor(self._threads, self.preparing.inputs, asked)
        return await self.line.made(inputs)

    async def _models(self, _: Request) -> Response:
        return _json(models_answer(self.limits.model, self.variant, self._since))

    async def _health(self, _: Request) -> Response:
        if self.line.is_draining:
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "the server is shutting down", code="shutting_down")
        return _json({"status": "ok"})

    async def _metrics(self, _: Request) -> Response:
        return Response(self.tallies.text(), media_type=CONTENT_TYPE_LATEST)


async def _unless_gone(request: Request, making: Awaitable[Any]) -> Any:
    """What ``making`` gives; raises ``ClientGone`` and cancels it where the client leaves before."""
    task = asyncio.ensure_future(making)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        task.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _failed(error: Exception) -> tuple[str, Response]:
    """The log has the message, the client the kind alone."""
    kind = type(error).__name__
    refusal = ApiError(
        HTTPStatus.INTERNAL_SERVER_ERROR, f"the picture could not be made ({kind})", code="internal_error"
    )
    return f"{kind}: {error}", refusal.response()


def _json(body: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
