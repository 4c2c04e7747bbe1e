"""A server under load: many requests at once, or as they arrive."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from bagel_perf.records.errors import UsageError


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One level of load of a server in one case.

    Closed loop: ``concurrency`` requests are under way until all were sent. Open loop: requests arrive at random,
    ``rate_rps`` a second on average, whether or not others were answered. ``latency_ms`` are those of answers with a
    picture, in the order of their requests, from the moment of arrival where there is one, else from sending.
    ``queue_ms`` is what the server tells of each answer, None where it does not tell all. ``duration_s`` is from the
    first request to the last answer. ``num_refused`` were refused for too much load (status 429), ``failures`` counts
    other failed requests by their reason. ``num_differing`` pictures are not the first server's of the same seed; None
    where there was no such picture. Raises ``UsageError``.
    """

    case: str
    variant: str
    concurrency: int | None = None
    rate_rps: float | None = None
    duration_s: float
    latency_ms: tuple[float, ...]
    queue_ms: tuple[float, ...] | None = None
    num_refused: int = 0
    failures: dict[str, int] = {}
    num_differing: int | None = None

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise UsageError(f"a level of load of {self.variant} {problem}")

    def _problems(self) -> Iterator[str]:
        if (self.concurrency is None) == (self.rate_rps is None):
            yield "is neither of a closed loop nor of an open one, or of both"
        if not self.duration_s > 0:
            yield "took no time"
        if not all(ms > 0 for ms in self.latency_ms):
            yield "has a latency that is not positive"
        if self.queue_ms is not None and len(self.queue_ms) != len(self.latency_ms):
            yield "has not as many waits in the queue as answers"
        if self.num_refused < 0 or any(number < 1 for number in self.failures.values()):
            yield "counts failures below 1"

    @property
    def num_failed(self) -> int:
        """Requests that failed, without those that were refused for too much load."""
        return sum(self.failures.values())

    @property
    def level(self) -> str:
        """The level in words, as ``4 at once`` or ``2.5/s``."""
        return f"{self.concurrency} at once" if self.concurrency is not None else f"{self.rate_rps:g}/s"
