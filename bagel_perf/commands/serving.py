"""Servers that ``compare`` is given: which options are theirs, and how they are measured."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

from bagel_perf import launch
from bagel_perf.commands.common import listed
from bagel_perf.recorder import Recorder
from bagel_perf.records.errors import EnvironmentUnfit, UsageError
from bagel_perf.records.events import Event
from bagel_perf.records.plans import MIN_VARIANTS, Plan, one_of
from bagel_perf.records.servers import APIS, DEFAULT_TIMEOUT_S, GRAMMAR, Served, is_server, parse_servers

OF_SERVERS = ("--api", "--timeout", "--concurrency", "--rate", "--requests")
NOT_OF_SERVERS = (
    "--variants",
    "--ablate",
    "--preset",
    "--weights",
    "--attention",
    "--device",
    "--processes",
    "--resolve",
    "--case",
    "--before-env",
    "--after-env",
)
CLIENT = "httpx2"


def named_servers(
    texts: Sequence[str],
    given: frozenset[str],
    api: str = "chat",
    timeout_s: float = DEFAULT_TIMEOUT_S,
    concurrency: Sequence[str] | None = None,
    rates: Sequence[str] | None = None,
    num_requests: int | None = None,
) -> Served | None:
    """The servers that were named to be compared, and how they are asked; None where files or variants are.

    Raises ``UsageError`` for fewer than two, for a mixture, and for options that mean nothing to what is named.
    """
    parts = listed(texts) if any("://" in text for text in texts) else []
    are_servers = [is_server(part) for part in parts]
    if not any(are_servers):
        _refuse(given, OF_SERVERS, f"servers, named {GRAMMAR}")
        return None
    if not all(are_servers):
        value = parts[are_servers.index(False)]
        raise UsageError("something else among servers", value=value, remedy=f"a server is named {GRAMMAR}")
    _refuse(given, NOT_OF_SERVERS, "what runs here, not for servers")
    if len(parts) < MIN_VARIANTS:
        remedy = f"compare before={parts[0]} after=http://HOST:PORT"
        raise UsageError("one server has nothing to be compared with", value=parts[0], allowed="two", remedy=remedy)
    return Served(
        servers=parse_servers(parts),
        api=one_of("api", api, APIS),
        timeout_s=timeout_s,
        concurrency=tuple(_number("concurrency", text, int) for text in listed(concurrency or ())),
        rates=tuple(_number("rate", text, float) for text in listed(rates or ())),
        num_requests=num_requests,
    )


def _number(what: str, text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{what} is no number", value=text, allowed="a number, or a list of them") from None


def _refuse(given: frozenset[str], options: Sequence[str], what: str) -> None:
    for option in options:
        if option in given:
            raise UsageError(f"{option} is for {what}", remedy="leave it out")


def measure_servers(plan: Plan, recorder: Recorder, view: Callable[[Event], None]) -> None:
    """Compares the servers of a plan in this process. Raises EnvironmentUnfit where no HTTP client is installed."""
    if importlib.util.find_spec(CLIENT) is None:
        raise EnvironmentUnfit(f"{CLIENT} is not installed", remedy="pip install 'bagel-perf[servers]'")
    # Imported here: only servers need an HTTP client.
    from bagel_perf.subjects.servers import run_servers

    def emit(event: Event) -> None:
        recorder.on_event(event)
        view(event)

    with launch.interruptible():
        run_servers(plan, emit)
