"""What a server is told: the model, where it listens, and the limits that it holds requests to."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from bagel_perf.records.errors import UsageError
from bagel_perf.records.plans import Plan, one_of

KvTransport = Literal["auto", "object_store", "gloo", "nccl"]
KV_TRANSPORTS: tuple[KvTransport, ...] = get_args(KvTransport)
MAX_PORT = 65535
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A model (``plan`` of the kind ``serve``, with one variant), an address, and limits; raises ``UsageError``.

    ``port`` 0 takes a free one. At most ``max_queue`` requests wait, a request has at most ``max_body_mb`` (MiB), a
    picture ``max_pixels``, a schedule ``max_steps`` points. What waits at SIGTERM is made for ``drain_s`` seconds.
    ``split`` puts AR and DiT into ``ar_replicas`` and ``dit_replicas`` processes, between
    which ``kv_transport`` hands over the KV cache.
    """

    plan: Plan
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    max_queue: int = 16
    max_pixels: int = 4096 * 4096
    max_steps: int = 100
    max_body_mb: int = 32
    drain_s: float = 60.0
    split: bool = False
    ar_replicas: int = 1
    dit_replicas: int = 1
    kv_transport: KvTransport = "auto"
    json_path: str | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        _within("port", self.port, 0, MAX_PORT)
        _within("--max-queue", self.max_queue, 0, 10_000)
        _within("--max-pixels", self.max_pixels, 256, 2**31)
        _within("--max-steps", self.max_steps, 2, 10_000)
        _within("--max-body-mb", self.max_body_mb, 1, 1024)
        _within("--drain", self.drain_s, 0, 86_400)
        _within("--ar-replicas", self.ar_replicas, 1, 64)
        _within("--dit-replicas", self.dit_replicas, 1, 64)
        one_of("kv transport", self.kv_transport, KV_TRANSPORTS)
        if not self.split and (self.ar_replicas, self.dit_replicas) != (1, 1):
            raise UsageError("one process has no replicas", remedy="add --split")
        if self.api_key is not None and not (self.api_key and self.api_key.isascii() and self.api_key.isprintable()):
            raise UsageError("the API key cannot stand in a header", allowed="printable ASCII, at least one character")

    @property
    def variant(self) -> str:
        return self.plan.variants[0]

    @property
    def is_exposed(self) -> bool:
        """Whether others than this machine may reach it, without a key."""
        return self.host not in LOOPBACK and self.api_key is None


def _within(what: str, value: float, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"{what} is out of range", value=value, allowed=f"{low} to {high}")
