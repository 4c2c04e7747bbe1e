"""Sends a request to a server that speaks vLLM-Omni's form of OpenAI's API, and reads what it answers.

Nothing of a server is trusted: an answer is bounded in size and time, followed nowhere, and has to be what was asked
for. Whatever else comes is a ``RunFailed`` that says what.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from bagel_perf.records.bagel import Request
from bagel_perf.records.errors import RunFailed, one_line
from bagel_perf.records.outlines import Scalar
from bagel_perf.records.servers import Api, Server, durations_ms

KEY_VARIABLE = "BAGEL_PERF_API_KEY"
MAX_ANSWER_BYTES = 128 * 1024 * 1024
MAX_FACTS_BYTES = 1024 * 1024
MAX_MESSAGE = 200
CONNECT_S = 10.0
FACTS_S = 10.0
DATA_URL = "data:image/"


class Busy(RunFailed):
    """A server has too much to do, and says so (status 429)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server gave for a request.

    ``picture`` is the file that it sent, ``e2e_ms`` the time from sending the request to the last byte of the answer.
    ``stages_ms`` are the durations that it told in a known unit, ``told`` all that it told, as it told it;
    ``peak_bytes`` is None where it told none, or 0.
    """

    picture: bytes
    e2e_ms: float
    stages_ms: Mapping[str, float]
    told: Mapping[str, Any]
    peak_bytes: int | None

    @property
    def queue_ms(self) -> float | None:
        """How long the request waited before its first stage; None where the server does not tell."""
        return durations_ms({"queue_wait_ms": self.told.get("queue_wait_ms")}).get("queue_wait_ms")


@dataclass(slots=True, kw_only=True)
class ServerClient:
    """One server, asked over connections that are kept; threads may share it.

    ``transport`` and ``now_ms`` take the place of the network and of the clock.
    """

    server: Server
    api: Api
    timeout_s: float
    transport: httpx2.BaseTransport | None = None
    now_ms: Callable[[], float] = field(default=lambda: time.perf_counter_ns() / 1e6)
    max_connections: int = 1
    _http: httpx2.Client = field(init=False)
    _model: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        key = os.environ.get(KEY_VARIABLE)
        self._http = httpx2.Client(
            base_url=self.server.url,
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx2.Timeout(self.timeout_s, connect=min(CONNECT_S, self.timeout_s)),
            limits=httpx2.Limits(max_connections=self.max_connections),
            follow_redirects=False,
            transport=self.transport,
            # A proxy of the environment is for other machines; to this one it would only add its own time.
            trust_env=not is_loopback(httpx2.URL(self.server.url).host),
        )

    def close(self) -> None:
        """Ends all connections."""
        self._http.close()

    def facts(self) -> dict[str, Scalar]:
        """Asks what is known of the server: its model and its health; raises ``RunFailed`` where nobody answers.

        What it does not tell is None.
        """
        health, _ = self._exchange("GET", "/health", MAX_FACTS_BYTES, timeout_s=min(FACTS_S, self.timeout_s))
        models, content = self._exchange("GET", "/v1/models", MAX_FACTS_BYTES, timeout_s=min(FACTS_S, self.timeout_s))
        if models.status_code == 200:
            self._model = _model_of(content)
        server = models.headers.get("server")
        return {
            "model": self._model,
            "health": health.status_code,
            "server": None if server is None else one_line(server)[:MAX_MESSAGE],
        }

    def ask(self, request: Request, seed: int, picture: bytes | None) -> Answer:
        """Sends a request and waits for its picture; ``picture`` is the file to edit, None for text to image.

        Raises ``RunFailed`` for whatever is no picture.
        """
        path, body = self._body(request, seed, picture)
        prepared = self._http.build_request("POST", path, **body)
        prepared.read()  # the body is made before the clock runs
        start_ms = self.now_ms()
        response, content = self._send(prepared, MAX_ANSWER_BYTES, self.timeout_s)
        e2e_ms = self.now_ms() - start_ms
        if response.status_code != 200:
            raise self._refused(response, content)
        answer = self._json(content)
        file, told, peak_mb = self._chat_parts(answer) if self.api == "chat" else self._image_parts(answer)
        return Answer(
            picture=file,
            e2e_ms=e2e_ms,
            stages_ms=durations_ms(told),
            told=told,
            peak_bytes=_bytes_of(peak_mb),
        )

    def _body(self, request: Request, seed: int, picture: bytes | None) -> tuple[str, dict[str, Any]]:
        """The path, and the arguments of httpx that make the body."""
        model = {} if self._model is None else {"model": self._model}
        asked: dict[str, Any] = {"num_inference_steps": request.steps, "seed": seed}
        if self.api == "images":
            asked |= {**model, "prompt": request.prompt, "size": request.case, "n": 1, "response_format": "b64_json"}
            if picture is None:
                return "/v1/images/generations", {"json": asked}
            files = {"image": ("input.png", picture, _mime(picture))}
            return "/v1/images/edits", {"data": {name: str(value) for name, value in asked.items()}, "files": files}
        text = (
            f"<|im_start|>{request.prompt}<|im_end|>"  # as vLLM-Omni's own client writes it, whose server adds nothing
        )
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        if picture is not None:
            url = f"data:{_mime(picture)};base64,{base64.b64encode(picture).decode()}"
            content.append({"type": "image_url", "image_url": {"url": url}})
        asked |= {
            **model,
            "messages": [{"role": "user", "content": content}],
            "modalities": ["image"],
            "height": request.height,
            "width": request.width,
            "return_stage_metrics": True,
        }
        return "/v1/chat/completions", {"json": asked}

    def _exchange(self, method: str, path: str, max_bytes: int, timeout_s: float) -> tuple[httpx2.Response, bytes]:
        return self._send(self._http.build_request(method, path), max_bytes, timeout_s)

    def _send(self, request: httpx2.Request, max_bytes: int, timeout_s: float) -> tuple[httpx2.Response, bytes]:
        deadline_s = time.monotonic() + timeout_s
        request.extensions["timeout"] = httpx2.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)).as_dict()
        with self._naming(timeout_s):
            response = self._http.send(request, stream=True)
            try:
                return response, self._read(response, max_bytes, deadline_s, timeout_s)
            finally:
                response.close()

    def _read(self, response: httpx2.Response, max_bytes: int, deadline_s: float, timeout_s: float) -> bytes:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise self.failed("a server answers in a packed form that was not asked for")
        parts, size = [], 0
        for part in response.iter_raw():
            size += len(part)
            if size > max_bytes:
                raise self.failed("an answer is too large", allowed=f"at most {max_bytes >> 20} MiB")
            if time.monotonic() > deadline_s:
                raise self._late(timeout_s)
            parts.append(part)
        return b"".join(parts)

    @contextmanager
    def _naming(self, timeout_s: float) -> Iterator[None]:
        """Turns what goes wrong on the way into one line that names the server."""
        try:
            yield
        except httpx2.ConnectTimeout as problem:
            raise self.failed("a server cannot be reached", allowed=f"no connection in {CONNECT_S:g} s") from problem
        except httpx2.TimeoutException as problem:
            raise self._late(timeout_s) from problem
        except httpx2.ConnectError as problem:
            raise self.failed("a server cannot be reached", allowed=_text(problem)) from problem
        except httpx2.RemoteProtocolError as problem:
            raise self.failed("an answer is cut off, or no HTTP", allowed=_text(problem)) from problem
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as problem:
            raise self.failed("a connection broke", allowed=_text(problem)) from problem

    def _late(self, timeout_s: float) -> RunFailed:
        return self.failed("an answer takes too long", allowed=f"{timeout_s:g} s", remedy="--timeout allows more")

    @property
    def _name(self) -> str:
        return f"{self.server.label}, {self.server.url}"

    def failed(self, what: str, *, allowed: str = "", remedy: str = "") -> RunFailed:
        """An error that names this server."""
        return RunFailed(what, value=self._name, allowed=allowed[:MAX_MESSAGE], remedy=remedy)

    def _refused(self, response: httpx2.Response, content: bytes) -> RunFailed:
        status = response.status_code
        if 300 <= status < 400:
            return self.failed(f"a server answers with status {status}", allowed="redirects are not followed")
        if status == 429:
            return Busy(f"a server answers with status {status}", value=self._name, allowed=_message_of(content))
        remedy = f"{KEY_VARIABLE} holds the key" if status in (401, 403) else ""
        return self.failed(f"a server answers with status {status}", allowed=_message_of(content), remedy=remedy)

    def _json(self, content: bytes) -> Mapping[str, Any]:
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as problem:
            raise self.failed("an answer is no JSON, or cut off", allowed=_text(problem)) from problem
        if not isinstance(found, Mapping):
            raise self.failed("an answer is no JSON object", allowed="an answer of OpenAI's API")
        return found

    def _chat_parts(self, answer: Mapping[str, Any]) -> tuple[bytes, dict[str, Any], object]:
        """File, durations as they were told, and peak in MB of a chat completion."""
        items = [
            item
            for choice in _members(answer.get("choices"))
            for item in _members(_mapping(choice.get("message")).get("content"))
            if item.get("type") == "image_url"
        ]
        if not items:
            raise self.failed("an answer has no picture", allowed="choices[].message.content[] with an image_url")
        url = _mapping(items[0].get("image_url")).get("url")
        if not isinstance(url, str) or not url.startswith(DATA_URL) or ";base64," not in url:
            raise self.failed("a picture of an answer is no data URL", allowed="data:image/png;base64,...")
        file = self._decoded(url.partition(";base64,")[2])
        return file, *_told(items[0], _mapping(answer.get("metrics")))

    def _image_parts(self, answer: Mapping[str, Any]) -> tuple[bytes, dict[str, Any], object]:
        """The same of an answer of the images API."""
        items = [*_members(answer.get("data"))]
        text = items[0].get("b64_json") if items else None
        if not isinstance(text, str):
            raise self.failed("an answer has no picture", allowed="data[].b64_json")
        return self._decoded(text), *_told(items[0], _mapping(answer.get("metrics")))

    def _decoded(self, text: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as problem:
            raise self.failed("a picture of an answer is no base64", allowed=_text(problem)) from problem


def is_loopback(host: str) -> bool:
    """Says whether a host is this machine by its name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _told(item: Mapping[str, Any], metrics: Mapping[str, Any]) -> tuple[dict[str, Any], object]:
    """Durations and peak, of the picture's own item or else of the whole answer; queue waits stand beside them."""
    durations = dict(_mapping(item.get("stage_durations")) or _mapping(metrics.get("stage_durations")))
    for source in (item, metrics):
        if "queue_wait_ms" in source:
            durations.setdefault("queue_wait_ms", source["queue_wait_ms"])
    return durations, item.get("peak_memory_mb") or metrics.get("peak_memory_mb")


def _bytes_of(megabytes: object) -> int | None:
    """vLLM-Omni tells 0 where nothing was measured."""
    if isinstance(megabytes, bool) or not isinstance(megabytes, int | float) or not 0 < megabytes < 1e9:
        return None
    return round(megabytes * 2**20)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _members(value: object) -> Iterator[Mapping[str, Any]]:
    return (each for each in value if isinstance(each, Mapping)) if isinstance(value, list) else iter(())


def _model_of(content: bytes) -> str | None:
    """The first model of a list of them."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    names = [each.get("id") for each in _members(_mapping(found).get("data"))]
    return one_line(names[0])[:MAX_MESSAGE] if names and isinstance(names[0], str) else None


def _message_of(content: bytes) -> str:
    """What an answer says of its error: OpenAI's ``error.message``, or its first words."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    error = _mapping(found).get("error", _mapping(found).get("detail"))
    message = _mapping(error).get("message", error)
    return one_line(message if isinstance(message, str) else content[:MAX_MESSAGE].decode("utf-8", "replace"))


def _mime(picture: bytes) -> str:
    begins = {b"\xff\xd8\xff": "image/jpeg", b"RIF": "image/webp"}
    return begins.get(picture[:3], "image/png")


def _text(problem: Exception) -> str:
    return one_line(str(problem)) or type(problem).__name__
