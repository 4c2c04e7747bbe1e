"""What prevents a CUDA graph of a region, by source line, with what to do about each.

History of the format: version 1, the first.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bagel_perf.records import codec
from bagel_perf.records.errors import UsageError
from bagel_perf.records.runs import SyncDevice

SCHEMA = "bagel-perf.capture"
VERSION = 1
CAPTURED = "captured"
MIN_ENTRIES = 2
"""From so many entries on it can be told what changes between them."""

BlockerKind = Literal["wait", "query", "copy", "stream", "random", "optimizer", "shape", "branch", "value", "address"]
Effect = Literal["stops", "freezes"]

LABELS: dict[BlockerKind, str] = {
    "wait": "host sync",
    "query": "query",
    "copy": "host copy",
    "stream": "side stream",
    "random": "random numbers",
    "optimizer": "optimizer",
    "shape": "shapes vary",
    "branch": "path varies",
    "value": "number varies",
    "address": "tensor changes",
}


class Blocker(msgspec.Struct, frozen=True, kw_only=True):
    """What prevents the graph at one line.

    What ``stops`` makes the capture fail; what ``freezes`` is captured, and each replay then does what the capture did.
    ``count`` says how often in all entries for what stops, random numbers and copies; for the other kinds in how many
    entries something differed from the entry before. ``file`` and ``line`` are those of the innermost frame outside
    torch, "" and 0 where there is none; ``caller`` is the innermost frame outside installed packages, as FILE:LINE,
    where that is another one. ``detail`` says what was seen: shapes, values, operators.
    """

    kind: BlockerKind
    effect: Effect
    file: str
    line: int
    function: str
    region: str
    count: int
    detail: str
    remedy: str
    expressions: tuple[str, ...] = ()
    caller: str | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError("a blocker was seen at least once", value=self.count)
        if not self.remedy.strip():
            raise UsageError("a blocker has a remedy", value=self.kind)


class CaptureReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen in all entries of a region, what stops a capture first.

    ``is_capturable`` is None where it cannot be told; ``notes`` say why, and what holds for a graph besides. ``tried``
    is "captured" or the error of a capture that was tried on a GPU, None where none was.
    """

    region: str
    device: SyncDevice
    num_entries: int
    blockers: tuple[Blocker, ...]
    is_capturable: bool | None
    tried: str | None = None
    notes: tuple[str, ...] = ()
    subject: str = ""

    def __post_init__(self) -> None:
        if self.is_capturable and (self.blockers or self.tried not in (None, CAPTURED)):
            raise UsageError("a region with blockers is not capturable", value=self.region)
        if self.is_capturable and self.num_entries < MIN_ENTRIES:
            raise UsageError("a region is not known to be capturable by its entries", value=self.num_entries)

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {"schema": SCHEMA, "version": VERSION, **codec.to_json(self)}

    @classmethod
    def from_json(cls, data: object) -> CaptureReport:
        """The report of a JSON object; ``UsageError`` when it is none, or of a newer version."""
        return codec.from_json(cls, codec.check_header(data, SCHEMA, VERSION))
