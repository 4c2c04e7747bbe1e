"""Servers that are compared: how people name them, what they are asked, and the units in which they tell durations.

A server is named ``[LABEL=]http://HOST:PORT``. It speaks vLLM-Omni's form of OpenAI's API.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, get_args
from urllib.parse import SplitResult, urlsplit

import msgspec

from bagel_perf.records.errors import UsageError, one_line
from bagel_perf.records.targets import name_problem

Api = Literal["chat", "images"]
APIS: tuple[Api, ...] = get_args(Api)
GRAMMAR = "http://HOST:PORT or LABEL=http://HOST:PORT"
DEFAULT_TIMEOUT_S = 600.0
MAX_TIMEOUT_S = 86_400.0
MAX_CONCURRENCY = 256
MAX_REQUESTS = 100_000

_SERVER = re.compile(r"(?:(?P<label>[^/=]*)=)?(?P<url>https?://.*)", re.IGNORECASE)


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server under its label; ``url`` is its root, without a slash at the end."""

    label: str
    url: str


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """The servers of a comparison, the reference first, and how they are asked.

    ``api`` is the endpoint of the requests: chat completions, or the images API (edits and generations). An answer that
    takes longer than ``timeout_s`` is a failed run. ``concurrency`` are numbers of requests under way at once,
    ``rates`` are requests per second that arrive at random; each is a level of load of ``num_requests`` requests, None
    for a number that goes with the level. Raises ``UsageError``.
    """

    servers: tuple[Server, ...]
    api: Api = "chat"
    timeout_s: float = DEFAULT_TIMEOUT_S
    concurrency: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    num_requests: int | None = None

    def __post_init__(self) -> None:
        _check("timeout", self.timeout_s, 0 < self.timeout_s <= MAX_TIMEOUT_S, f"seconds up to {MAX_TIMEOUT_S:g}")
        for number in self.concurrency:
            _check("concurrency", number, 1 <= number <= MAX_CONCURRENCY, f"1 to {MAX_CONCURRENCY}")
        for rate in self.rates:
            _check("rate", rate, 0 < rate <= 1000, "requests per second, above 0, at most 1000")
        for what, levels in (("concurrency", self.concurrency), ("rate", self.rates)):
            _check(what, ", ".join(map(str, levels)), len(set(levels)) == len(levels), "each level once")
        if self.num_requests is not None:
            _check("number of requests", self.num_requests, 1 <= self.num_requests <= MAX_REQUESTS, "1 or more")
            if not self.concurrency and not self.rates:
                raise UsageError("--requests is for a level of load", remedy="add --concurrency or --rate")


def _check(what: str, value: object, holds: bool, allowed: str) -> None:
    if not holds:
        raise UsageError(f"{what} is not possible", value=value, allowed=allowed)


def is_server(text: str) -> bool:
    """Says whether a text names a server, and so no file and no variant of BAGEL."""
    return _SERVER.fullmatch(text.strip()) is not None


def parse_servers(texts: Iterable[str]) -> tuple[Server, ...]:
    """Reads servers in their order, each with a label of its own; without one it is HOST-PORT.

    Raises ``UsageError`` for a text that is no server, and for two of one label.
    """
    servers = tuple(_server(text.strip()) for text in texts)
    for label, times in Counter(server.label for server in servers).items():
        if times > 1:
            url = next(server.url for server in servers if server.label == label)
            remedy = f"give each a label of its own: before={url} after={url}"
            raise UsageError("two servers have one name", value=label, remedy=remedy)
    return servers


def _server(text: str) -> Server:
    match = _SERVER.fullmatch(text)
    if match is None:
        raise UsageError("server is not understood", value=text or "''", allowed=GRAMMAR)
    label, parts = match["label"], _parts(match["url"], text)
    if label is None:
        label = f"{parts.hostname}-{_port(parts, text)}".replace(":", "_")
    elif problem := name_problem(label):
        raise UsageError(f"label {problem}", value=text, allowed=GRAMMAR)
    return Server(label=label, url=f"{parts.scheme}://{parts.netloc}")


def _parts(url: str, text: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018
    except ValueError as problem:
        raise UsageError("server is not understood", value=text, allowed=GRAMMAR, remedy=str(problem)) from None
    if "@" in parts.netloc:
        remedy = "leave NAME:PASSWORD@ out; BAGEL_PERF_API_KEY holds a key"
        raise UsageError("server has a password in its name", allowed=GRAMMAR, remedy=remedy)
    if not parts.hostname or one_line(url) != url or " " in url:
        raise UsageError("server is not understood", value=text, allowed=GRAMMAR)
    if parts.path.rstrip("/") not in ("", "/v1") or parts.query or parts.fragment:
        remedy = f"did you mean {parts.scheme}://{parts.netloc}"
        raise UsageError("server is named by its root", value=text, allowed=GRAMMAR, remedy=remedy)
    return parts


def _port(parts: SplitResult, text: str) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


MS_PER_UNIT = {"_ms": 1.0, "_us": 1e-3, "_s": 1e3, "_seconds": 1e3}
"""By the end of a name, which says its unit."""
IN_SECONDS = re.compile(r"ar_stage_\d+|[A-Za-z_]\w*(\.[A-Za-z_]\w*)+|\.\w+(\.\w+)*")
"""Names without a unit that are seconds: those of vLLM-Omni's profilers of stages, and of a pipeline's methods, which
have a dot, as ``BagelPipeline.forward`` and ``BagelPipeline.vae.decode``."""
_NO_STAGE = re.compile(r".*queue_wait_ms|denoise_step_latency_ms")


def is_stage(name: str) -> bool:
    """Says whether a duration is a part of the work.

    A wait in a queue, before the stages or one of them, is none, nor is vLLM-Omni's quotient of a stage by its steps.
    """
    return _NO_STAGE.fullmatch(name) is None


def duration_ms(name: str, value: object) -> float | None:
    """Turns a duration that a server tells into ms by its name; None where its unit is not known, or it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    factor = next((factor for end, factor in MS_PER_UNIT.items() if name.endswith(end)), None)
    if factor is None and IN_SECONDS.fullmatch(name):
        factor = 1e3
    return None if factor is None else value * factor


def durations_ms(durations: Mapping[str, object]) -> dict[str, float]:
    """Turns ``stage_durations`` into ms; what has no known unit is left out."""
    found = {one_line(name)[:80]: duration_ms(name, value) for name, value in durations.items()}
    return {name: ms for name, ms in found.items() if ms is not None and name}
