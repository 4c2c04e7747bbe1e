"""Servers under load: throughput, the middle and the slow end of their latencies, and waits in the queue."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bagel_perf.records.loads import Load
from bagel_perf.records.results import Result
from bagel_perf.report.table import NONE, Column, Table, ms_text, sentences

CAPTION = sentences(
    "p50 and p99 are of the answers' latencies, by nearest rank, so that of fewer than 100 answers p99 is the slowest",
    "a latency is from sending in a closed loop (at once), and from the arrival where arrivals are random (/s)",
    "the times in the queue are what the server tells",
    "429 counts requests that were refused for too much load",
    "each level is one pass, so there is no verdict",
)


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of values: the smallest that ``share`` of them do not exceed; None without any."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else None


def load_tables(result: Result) -> Iterator[Table]:
    """One a case, with a row for each level and server; none where nothing was put under load."""
    headers = ("throughput (1/s)", "p50 (ms)", "p99 (ms)", "queue (ms)", "queue p99 (ms)", "answers", "429", "failed")
    has_pictures = any(load.num_differing for load in result.loads)
    for case in dict.fromkeys(load.case for load in result.loads):
        yield Table(
            title=f"Under load at {case}",
            columns=(
                Column(header="load"),
                Column(header="server"),
                *(Column(header=header, numeric=True) for header in headers),
                *([Column(header="other pictures", numeric=True)] if has_pictures else []),
            ),
            rows=tuple(_row(load, has_pictures=has_pictures) for load in result.loads if load.case == case),
            caption=CAPTION,
        )


def _row(load: Load, *, has_pictures: bool) -> tuple[str, ...]:
    number = len(load.latency_ms)
    times = (percentile(load.latency_ms, 0.5), percentile(load.latency_ms, 0.99))
    queue = (NONE, NONE)
    if load.queue_ms is not None:
        queue = ms_text(percentile(load.queue_ms, 0.5)), ms_text(percentile(load.queue_ms, 0.99))
    differing = NONE if load.num_differing is None else str(load.num_differing)
    return (
        load.level,
        load.variant,
        f"{number / load.duration_s:.3g}",
        *map(ms_text, times),
        *queue,
        str(number),
        str(load.num_refused),
        str(load.num_failed),
        *([differing] if has_pictures else []),
    )
