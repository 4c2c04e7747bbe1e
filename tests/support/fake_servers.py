"""Servers that speak vLLM-Omni's form of OpenAI's API, over the network or in a test's own process, and can misbehave.

A picture follows from the request and its seed alone. Stages take what is planted, and are told in the units that
vLLM-Omni mixes.
"""

from __future__ import annotations

import base64
import email
import email.message
import email.policy
import hashlib
import io
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from bagel_perf.records.servers import Server
from bagel_perf.subjects.server_client import ServerClient

STAGES_MS = {"stage_0_gen_ms": 8.0, "BagelPipeline.vae.decode": 3.0, "stage_1_gen_ms": 20.0}
"""What each stage takes; the name says in which unit it is told."""


@dataclass(slots=True, kw_only=True)
class FakeServer:
    """A server's answers; ``slower`` are factors by stage, ``sleep`` passes the time that stages take, in seconds.

    ``broken`` says how it misbehaves, from the request for a picture with the number ``breaks_at`` on: "status", "cut",
    "slow", "no json", "no picture", "half a picture", "no base64", "other size", "flat", "noise", "no stages",
    "redirect", "packed", "large", "busy".
    """

    stages_ms: Mapping[str, float] = field(default_factory=lambda: dict(STAGES_MS))
    slower: Mapping[str, float] = field(default_factory=dict)
    has_pixel: bool = False
    model: str = "BAGEL-fake"
    told: Mapping[str, Any] = field(default_factory=dict)
    peak_mb: float = 1024.0
    broken: str = ""
    breaks_at: int = 0
    jitter: float = 0.01
    compress_level: int = 1
    lock_ms: float = 0.0
    sleep: Callable[[float], None] = time.sleep
    num_pictures: int = 0
    seen: list[tuple[str, Any]] = field(default_factory=list)
    _draw: random.Random = field(default_factory=lambda: random.Random(0))
    _gate: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_broken(self) -> bool:
        return bool(self.broken) and self.num_pictures > self.breaks_at

    def answer(self, method: str, path: str, content_type: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content."""
        if path == "/health":
            return _json(200, {"status": "healthy"})
        if path == "/v1/models":
            return _json(200, {"object": "list", "data": [{"id": self.model, "object": "model"}]})
        asked = _multipart(content_type, body) if path == "/v1/images/edits" else json.loads(body)
        self.seen.append((path, asked))
        self.num_pictures += 1
        odd = self._odd_status() if self.is_broken else None
        if odd is not None:
            return odd
        begun = time.perf_counter()
        with self._gate:  # one request at a time, as one GPU serves
            queued_ms = (time.perf_counter() - begun) * 1e3
            durations = self._work(queued_ms)
        if self.is_broken and self.broken == "no stages":
            durations = {}
        return _json(200, self._content(path, asked, durations))

    def _work(self, queued_ms: float) -> dict[str, Any]:
        durations: dict[str, Any] = {"queue_wait_ms": queued_ms}
        for name, base_ms in self.stages_ms.items():
            ms = base_ms * self.slower.get(name, 1.0) * (1 + self.jitter * self._draw.random())
            self.sleep(ms / 1e3)
            durations[name] = ms if name.endswith("_ms") else ms / 1e3
        return {**durations, **self.told}

    def _odd_status(self) -> tuple[int, dict[str, str], bytes] | None:
        if self.broken == "status":
            return _json(500, {"error": {"message": "CUDA out of memory", "type": "server_error"}})
        if self.broken == "busy":
            return _json(429, {"error": {"message": "the queue is full", "type": "rate_limit"}})
        if self.broken == "redirect":
            return 307, {"Location": "http://127.0.0.1:9/elsewhere"}, b""
        if self.broken == "no json":
            return 200, {"Content-Type": "application/json"}, b'{"choices": ['
        if self.broken == "packed":
            return 200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"
        if self.broken == "large":
            return 200, {}, b" " * 4096
        if self.broken == "slow":
            self.sleep(30.0)
        return None

    def _content(self, path: str, asked: Mapping[str, Any], durations: Mapping[str, Any]) -> dict[str, Any]:
        file = self._picture(asked)
        text = base64.b64encode(file).decode()
        if self.is_broken and self.broken == "no base64":
            text = "!" + text
        metrics = {"stage_durations": durations, "peak_memory_mb": self.peak_mb}
        if path != "/v1/chat/completions":
            return {"created": 0, "data": [{"b64_json": text}], "metrics": metrics}
        item = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}"}, **metrics}
        content = [] if self.is_broken and self.broken == "no picture" else [item]
        message = {"role": "assistant", "content": content}
        return {"object": "chat.completion", "choices": [{"index": 0, "message": message}], "metrics": metrics}

    def _picture(self, asked: Mapping[str, Any]) -> bytes:
        width, height = _size(asked)
        seed = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest()
        if self.is_broken and self.broken == "noise":
            seed += str(self.num_pictures).encode()
        width += self.is_broken and self.broken == "other size"
        draw = np.random.default_rng(list(seed))
        values = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if self.is_broken and self.broken == "flat":
            values[:] = 7
        if self.has_pixel:
            values[0, 0, 0] ^= 1
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, format="PNG", compress_level=self.compress_level)
        half = self.is_broken and self.broken == "half a picture"
        return buffer.getvalue()[: buffer.tell() // 2] if half else buffer.getvalue()


def _size(asked: Mapping[str, Any]) -> tuple[int, int]:
    if "size" in asked:
        width, _, height = str(asked["size"]).partition("x")
        return int(width), int(height)
    return asked["width"], asked["height"]


def _multipart(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a form; of a file its md5."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    assert isinstance(message, email.message.EmailMessage)
    fields = {}
    for part in message.iter_parts():
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        assert isinstance(content, bytes)
        is_file = part.get_filename() is not None
        fields[str(name)] = hashlib.md5(content).hexdigest() if is_file else content.decode()
    return fields


def _json(status: int, value: object) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()


@contextmanager
def listening(fake: FakeServer) -> Iterator[str]:
    """Serves over the network, on a free port of the loopback; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self) -> None:
            self._respond(b"")

        def do_POST(self) -> None:
            self._respond(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def _respond(self, body: bytes) -> None:
            content_type = self.headers.get("Content-Type", "")
            status, headers, content = fake.answer(self.command, self.path, content_type, body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if fake.is_broken and fake.broken == "cut":
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
                return
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Says nothing of clients that went away."""

    with Quiet(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@dataclass(slots=True, kw_only=True)
class PlantedClock:
    """A clock that only moves when a fake server works."""

    now_ms: float = 0.0

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        self.now_ms += seconds * 1e3


def connecting(fakes: Mapping[str, FakeServer], clock: PlantedClock) -> Callable[..., ServerClient]:
    """What makes clients of servers in this process, by label, whose time is that of the clock."""

    def connect(*, server: Server, **options: Any) -> ServerClient:
        fake = fakes[server.label]
        fake.sleep = clock.sleep

        def handle(request: httpx2.Request) -> httpx2.Response:
            content_type = request.headers.get("Content-Type", "")
            status, headers, content = fake.answer(request.method, request.url.path, content_type, request.read())
            return httpx2.Response(status, headers=headers, stream=httpx2.ByteStream(content))

        transport = httpx2.MockTransport(handle)
        return ServerClient(server=server, transport=transport, now_ms=lambda: clock.now_ms, **options)

    return connect
