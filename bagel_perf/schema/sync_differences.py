"""What changed from one report of host syncs to another, place by place.

History of the format: version 1, the first.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bagel_perf.schema import codec
from bagel_perf.schema.trace_differences import Change
from bagel_perf.schema.waits import Kind

SCHEMA = "bagel-perf.syncs-against"
VERSION = 1


class SyncChange(msgspec.Struct, frozen=True, kw_only=True):
    """Waits of one kind and text in one function whose number changed; 0 is none, None unknown.

    ``line`` is where they are now, or were; ``why_unknown`` says what was not seen.
    """

    change: Change
    kind: Kind
    file: str
    line: int
    function: str
    expressions: tuple[str, ...]
    count_before: int | None
    count_after: int | None
    why_unknown: str = ""


class SyncDifference(msgspec.Struct, frozen=True, kw_only=True):
    """From ``before`` to ``after``, the subjects of two reports; totals are None where they are unknown.

    ``num_same`` places have the same number in both, together ``host_syncs_same`` waits. ``notes`` say what keeps the
    two from being compared at face value.
    """

    before: str
    after: str
    host_syncs_before: int | None
    host_syncs_after: int | None
    changes: tuple[SyncChange, ...]
    num_same: int
    host_syncs_same: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The difference as a JSON object."""
        return {"schema": SCHEMA, "version": VERSION, **codec.to_json(self)}

    @classmethod
    def from_json(cls, data: object) -> SyncDifference:
        """The difference of a JSON object; ``UsageError`` when it is none."""
        return codec.from_json(cls, codec.check_header(data, SCHEMA, VERSION))
