"""What the server counts and times of its requests, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bagel_perf.serve.making import Made

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Tallies:
    """Metrics of one server, in a registry of its own; names as vLLM-Omni's, under a prefix of ours."""

    def __init__(self, num_waiting: Callable[[], int], num_running: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "bagel_perf:requests", "Requests by route and status.", ("route", "status"), registry=self._registry
        )
        self._e2e = self._histogram("e2e_request_latency_s", "From the arrival of a request to its picture.")
        self._wait = self._histogram("request_queue_wait_s", "In the line.")
        self._hand_over = self._histogram("kv_wait_s", "From the KV cache ready in AR to there in DiT.")
        self._stages = Histogram(
            "bagel_perf:stage_gen_time_s",
            "Of a stage: 0 is AR, 1 is DiT.",
            ("stage",),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._peak = Gauge("bagel_perf:peak_memory_mb", "Of the last request, in MiB.", registry=self._registry)
        self._peak.set(float("nan"))
        waiting = Gauge("bagel_perf:num_requests_waiting", "In the line now.", registry=self._registry)
        waiting.set_function(lambda: float(num_waiting()))
        running = Gauge("bagel_perf:num_requests_running", "Under way now.", registry=self._registry)
        running.set_function(lambda: float(num_running()))

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"bagel_perf:{name}", text, buckets=_BUCKETS_S, registry=self._registry)

    def count(self, route: str, status: int) -> None:
        """Counts an answer; ``route`` is one of the server's, never what a client wrote."""
        self._requests.labels(route, str(status)).inc()

    def observe(self, made: Made, queue_wait_ms: float, e2e_s: float) -> None:
        """Takes over the figures of a picture."""
        self._e2e.observe(e2e_s)
        self._wait.observe(queue_wait_ms / 1e3)
        for stage, latency_ms in (("0", made.ar_ms), ("1", made.dit_ms)):
            self._stages.labels(stage).observe(latency_ms / 1e3)
        if made.hand_over is not None:
            self._hand_over.observe(made.hand_over.latency_ms / 1e3)
        if made.peak_memory_mb is not None:
            self._peak.set(made.peak_memory_mb)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
