"""A place in the source where the host waits for the device."""

from __future__ import annotations

import msgspec

from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.waits import Kind


class UnjudgedSite(msgspec.Struct, frozen=True, kw_only=True):
    """All calls of an operator that the simulated device cannot judge at one line in one region.

    ``file`` and ``line`` are those of the innermost frame outside torch, "" and 0 where none was on the stack.
    """

    operator: str
    file: str
    line: int
    region: str
    count: int


class QuietOperator(msgspec.Struct, frozen=True, kw_only=True):
    """An operator that the user declared not to wait, and why; ``calls`` says how often it ran."""

    name: str
    reason: str
    calls: int


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """All host syncs of one kind at one line in one region.

    ``file`` and ``line`` are those of the innermost frame outside torch, "" and 0 where none was on the stack;
    ``caller`` is the innermost frame outside installed packages, as FILE:LINE, where that is another one.
    ``expressions`` are the source texts that waited, ``op`` the operator inside which a library waits.
    ``blocked_ms`` is the host's time inside the waits, ``lost_gpu_ms`` the GPU's idle time that they caused; None where
    no profile was taken. ``price_ms`` is what the program would save without the waits: at least, if they alone went,
    and at most, if what only computes their answers went too; None where it was not asked or cannot be told.
    ``allowed`` is the reason that ``allow_sync`` gave. ``around`` are words for what is around the expressions in their
    function: ``loop``; ``stop`` where it decides the end of a loop or function, ``check`` where an exception; ``log``,
    ``collect`` (into a list) and ``sum`` for where the value goes; ``count`` where only its length is used, ``truth``
    where it is asked whether it is true, ``index`` where it waits for its index, ``update`` where it is written anew,
    as by ``+=``.
    ``is_setup`` says that the waits upload a model's parameters before it works; they count like others.
    """

    kind: Kind
    file: str
    line: int
    function: str
    region: str
    count: int
    blocked_ms: float | None = None
    lost_gpu_ms: float | None = None
    price_ms: tuple[float, float] | None = None
    allowed: str | None = None
    expressions: tuple[str, ...] = ()
    caller: str | None = None
    op: str | None = None
    around: tuple[str, ...] = ()
    is_setup: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError("a site waited at least once", value=self.count)
        if self.allowed is not None and not self.allowed.strip():
            raise UsageError("an allowed host sync has a reason", remedy='allow_sync("why it has to wait")')
