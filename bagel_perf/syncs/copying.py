"""Collects copies between host and device by line, those that wait and those that do not.

A copy that waits is heard as a wait of a kind that copies; one that does not is told by whoever makes it: the simulated
device of every thread, on CUDA the log of calls, of the thread that opened the watch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Protocol

from bagel_perf.records import codec
from bagel_perf.records.copies import CopySite, Direction, by_bytes
from bagel_perf.records.ledger import COPY_FIELDS, UNKNOWN_BYTES, Ledger

CopyListener = Callable[[bool, int | None, bool], None]
"""(is_download, bytes or None, whether the host waits), on the thread that copies."""


class CopyNews:
    """Tells whoever listens of each copy."""

    def __init__(self) -> None:
        self._listeners: tuple[CopyListener, ...] = ()

    @contextmanager
    def to(self, listener: CopyListener) -> Iterator[None]:
        """``listener`` is told until the end of the context."""
        self._listeners = (*self._listeners, listener)
        try:
            yield
        finally:
            self._listeners = tuple(other for other in self._listeners if other is not listener)

    def tell(self, is_download: bool, num_bytes: int | None, waits: bool) -> None:
        """One copy, which the host was told not to wait for; ``waits`` says that it was held all the same."""
        for listener in self._listeners:
            listener(is_download, num_bytes, waits)


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """A copy that is no wait; frames and region as in ``Wait``."""

    direction: Direction
    num_bytes: int | None
    is_held: bool
    frame: FrameType | None
    caller: FrameType | None
    region: tuple[str, ...]


class Spot(Protocol):
    """Where a copy was made; a ``Place``."""

    @property
    def code(self) -> CodeType | None: ...
    @property
    def line(self) -> int: ...
    @property
    def region(self) -> tuple[str, ...]: ...


class _Sum:
    __slots__ = ("count", "num_bytes", "num_waited", "slots")

    def __init__(self) -> None:
        self.count = 0
        self.num_bytes: int | None = 0
        self.num_waited = 0
        self.slots: dict[str, int] = {}


_Key = tuple[Direction, int, int, tuple[str, ...]]
"""Direction, identity of the code, line, region."""


class CopyTally:
    """Adds copies up; whoever calls sees to it that one thread does at a time.

    ``tell`` has a ledger told of each sum as it grows, under names that ``name_of`` gives to files.
    """

    def __init__(self) -> None:
        self._sums: dict[_Key, _Sum] = {}
        self._codes: dict[int, CodeType | None] = {}
        self._ledger: Ledger | None = None
        self._name_of: Callable[[str], str] = str

    def tell(self, ledger: Ledger, name_of: Callable[[str], str]) -> None:
        """From now on."""
        self._ledger, self._name_of = ledger, name_of

    def add(self, direction: Direction, num_bytes: int | None, place: Spot, *, is_waited: bool) -> None:
        """One more copy."""
        key = (direction, id(place.code), place.line, place.region)
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = _Sum()
            self._codes[id(place.code)] = place.code
        found.count += 1
        found.num_waited += is_waited
        found.num_bytes = None if num_bytes is None or found.num_bytes is None else found.num_bytes + num_bytes
        if self._ledger is not None:
            self._write(self._ledger, key, found)

    def _write(self, ledger: Ledger, key: _Key, found: _Sum) -> None:
        if not found.slots:
            record = {"copy": codec.to_json(self._site(key, found, self._name_of))}
            found.slots = {field: ledger.slot({**record, "field": field}) for field in COPY_FIELDS}
        for field, slot in found.slots.items():
            value = getattr(found, field)
            ledger.set(slot, UNKNOWN_BYTES if value is None else value)

    def sites(self, name_of: Callable[[str], str]) -> tuple[CopySite, ...]:
        """The copies so far; ``name_of`` gives the name of a file as reports have it."""
        return by_bytes([self._site(key, found, name_of) for key, found in self._sums.items()])

    def _site(self, key: _Key, found: _Sum, name_of: Callable[[str], str]) -> CopySite:
        direction, of_code, line, region = key
        code = self._codes[of_code]
        return CopySite(
            direction=direction,
            file=name_of(code.co_filename) if code else "",
            line=line,
            function=code.co_qualname if code else "",
            region="/".join(region),
            count=found.count,
            num_bytes=found.num_bytes,
            num_waited=found.num_waited,
        )
