"""Puts servers under load: so many requests at once (closed loop), or as they arrive at random (open loop)."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from msgspec.structs import replace

from bagel_perf.records.bagel import Request
from bagel_perf.records.errors import RunFailed
from bagel_perf.records.loads import Load
from bagel_perf.records.servers import MAX_CONCURRENCY, Served
from bagel_perf.subjects.pictures import read_picture
from bagel_perf.subjects.server_client import Answer, Busy, ServerClient

MIN_REQUESTS = 20
REQUESTS_PER_PLACE = 4
"""Of a closed loop, where no number is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """So many requests at once, or so many arrivals a second; one of the two is None."""

    concurrency: int | None = None
    rate_rps: float | None = None

    def num_requests(self, served: Served) -> int:
        """How many requests make up the level."""
        return served.num_requests or max(MIN_REQUESTS, REQUESTS_PER_PLACE * (self.concurrency or 0))

    @property
    def text(self) -> str:
        """The level in words."""
        return f"{self.concurrency} at once" if self.concurrency is not None else f"{self.rate_rps:g} a second"

    @property
    def num_threads(self) -> int:
        """How many requests may be under way; an arrival beyond it waits, and its latency counts the wait."""
        return self.concurrency or MAX_CONCURRENCY


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one request under load gave, and when: its picture's file by its sha256, or without an answer a reason."""

    index: int
    latency_ms: float
    ended_s: float
    answer: Answer | None = None
    file_sha256: str = ""
    reason: str = ""
    is_busy: bool = False


class Asks(Protocol):
    """Sends the request of one seed."""

    def __call__(self, seed: int) -> Answer: ...


@dataclass(slots=True, kw_only=True)
class Files:
    """Pictures that came under load, each file once a seed; looked at when the clock stands still."""

    by_seed: dict[int, dict[str, bytes]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, seed: int, content: bytes) -> str:
        """Keeps a file that is new for its seed; gives its sha256."""
        sha256 = hashlib.sha256(content).hexdigest()
        with self.lock:
            self.by_seed.setdefault(seed, {}).setdefault(sha256, content)
        return sha256

    def pixels(self, seed: int, sha256: str) -> str:
        """The sha256 of a file's pixels. Raises ``RunFailed`` where it is no picture."""
        return read_picture(self.by_seed[seed][sha256]).output.sha256


def levels_of(served: Served) -> tuple[Level, ...]:
    """The levels of load that were asked for: closed loops first."""
    closed = (Level(concurrency=number) for number in served.concurrency)
    return (*closed, *(Level(rate_rps=rate) for rate in served.rates))


def loads_of(
    level: Level,
    served: Served,
    request: Request,
    picture: bytes | None,
    clients: Mapping[str, ServerClient],
    first_seed: int,
    order: random.Random,
) -> Iterator[Load]:
    """Puts each server under one level of load, in random order, all with the same seeds and arrivals.

    A closed loop is preceded by as many requests as it has under way, which are in no figure.
    """
    number = level.num_requests(served)
    seeds = range(first_seed, first_seed + number)
    arrivals = _arrivals(level.rate_rps, number, order.randrange(2**31))
    files, told = Files(), dict[str, tuple[Load, list[Told]]]()
    for label in order.sample([*clients], len(clients)):
        asks = partial(_ask, clients[label], request, picture)
        if level.concurrency is not None:
            _run(level, asks, seeds[: level.concurrency], None, Files())
        begun, found = _run(level, asks, seeds, arrivals, files)
        duration_s = max(each.ended_s for each in found) - begun
        told[label] = _load(level, request.case, label, duration_s, found), found
    yield from _held_to_first(next(iter(clients)), told, files, seeds)


def _ask(client: ServerClient, request: Request, picture: bytes | None, seed: int) -> Answer:
    return client.ask(request, seed, picture)


def _arrivals(rate_rps: float | None, number: int, seed: int) -> list[float] | None:
    """Seconds from the begin at which requests arrive, with exponential gaps between them."""
    if rate_rps is None:
        return None
    draw, now, found = random.Random(seed), 0.0, []
    for _ in range(number):
        found.append(now)
        now += draw.expovariate(rate_rps)
    return found


def _run(
    level: Level, asks: Asks, seeds: Sequence[int], arrivals: Sequence[float] | None, files: Files
) -> tuple[float, list[Told]]:
    """Sends all requests; those of a closed loop as soon as a place is free, others when they arrive.

    Gives the moment of the begin, and what each request gave.
    """
    num_threads = min(level.num_threads, len(seeds))
    with ThreadPoolExecutor(num_threads) as pool:
        gate = threading.Barrier(num_threads)
        wait([pool.submit(gate.wait) for _ in range(num_threads)])  # else the first requests pay for starting threads
        begun = time.perf_counter()
        futures = []
        for index, seed in enumerate(seeds):
            arrives = None if arrivals is None else begun + arrivals[index]
            if arrives is not None:
                time.sleep(max(0.0, arrives - time.perf_counter()))
            futures.append(pool.submit(_one, asks, index, seed, arrives, files))
        return begun, [future.result() for future in futures]


def _one(asks: Asks, index: int, seed: int, arrives: float | None, files: Files) -> Told:
    sent = time.perf_counter() if arrives is None else arrives

    def told(answer: Answer | None = None, **fields: Any) -> Told:
        now = time.perf_counter()
        return Told(index=index, latency_ms=(now - sent) * 1e3, ended_s=now, answer=answer, **fields)

    try:
        found = told(asks(seed))
    except Busy as problem:
        return told(reason=problem.what, is_busy=True)
    except RunFailed as problem:
        return told(reason=f"{problem.what}: {problem.allowed}" if problem.allowed else problem.what)
    assert found.answer is not None
    sha256 = files.keep(seed, found.answer.picture)
    return dataclasses.replace(found, answer=dataclasses.replace(found.answer, picture=b""), file_sha256=sha256)


def _load(level: Level, case: str, label: str, duration_s: float, found: Sequence[Told]) -> Load:
    answered = [each for each in found if each.answer is not None]
    queues = [each.answer.queue_ms for each in answered if each.answer is not None]
    known = [ms for ms in queues if ms is not None]
    return Load(
        case=case,
        variant=label,
        concurrency=level.concurrency,
        rate_rps=level.rate_rps,
        duration_s=duration_s,
        latency_ms=tuple(each.latency_ms for each in answered),
        queue_ms=tuple(known) if known and len(known) == len(answered) else None,
        num_refused=sum(each.is_busy for each in found),
        failures=dict(Counter(each.reason for each in found if each.answer is None and not each.is_busy)),
    )


def _held_to_first(
    first: str, told: Mapping[str, tuple[Load, list[Told]]], files: Files, seeds: Sequence[int]
) -> Iterator[Load]:
    """The loads, the first server's at first, with what their pictures are against that one's."""
    reference: dict[int, str] = {}
    for label in (first, *(label for label in told if label != first)):
        load, found = told[label]
        failures, num_differing, num_held = Counter(load.failures), 0, 0
        lost = set[int]()
        for each in (each for each in found if each.answer is not None):
            seed = seeds[each.index]
            try:
                pixels = files.pixels(seed, each.file_sha256)
            except RunFailed as problem:
                failures[problem.what] += 1
                lost.add(each.index)
                continue
            num_held += label != first and seed in reference
            num_differing += reference.setdefault(seed, pixels) != pixels
        yield _without(load, found, lost, dict(failures), num_differing if num_held else None)


def _without(
    load: Load, found: Sequence[Told], lost: set[int], failures: dict[str, int], num_differing: int | None
) -> Load:
    """A load without the latencies of answers that turned out to be no pictures."""
    answered = [each for each in found if each.answer is not None]
    kept = [place for place, each in enumerate(answered) if each.index not in lost]
    queue_ms = load.queue_ms
    return replace(
        load,
        latency_ms=tuple(load.latency_ms[place] for place in kept),
        queue_ms=None if queue_ms is None else tuple(queue_ms[place] for place in kept),
        failures=failures,
        num_differing=num_differing,
    )
