"""Copies between host and device by line, and which waits are copies.

A copy moves the values of a tensor, or one of its elements where the host reads it. What an operator asks for itself,
as how many elements of a mask are True, is a wait and no copy.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bagel_perf.records.errors import UsageError
from bagel_perf.records.sites import Kind

Direction = Literal["upload", "download"]

DIRECTIONS: dict[Kind, Direction] = {
    "scalar_read": "download",
    "tensor_as_size": "download",
    "list_of_scalars": "download",
    "d2h_copy": "download",
    "pageable_upload": "upload",
    "integer_index_write": "upload",
}
"""The kinds of waits that are a copy each; a staged copy is told as the asynchronous one that it was asked to be."""


class CopySite(msgspec.Struct, frozen=True, kw_only=True):
    """All copies of one direction at one line in one region; file and line as in ``SyncSite``.

    ``num_bytes`` is None where it is not known of one of them; of ``num_waited`` of them the host waited for the end.
    """

    direction: Direction
    file: str
    line: int
    function: str
    region: str
    count: int
    num_bytes: int | None
    num_waited: int

    def __post_init__(self) -> None:
        if not 0 <= self.num_waited <= self.count or self.count < 1:
            raise UsageError("copies were waited for", value=self.num_waited, allowed=f"0 to {self.count} copies")


def by_bytes(sites: list[CopySite]) -> tuple[CopySite, ...]:
    """Those of unknown size first, as they may be the largest, then by bytes, then by number."""
    return tuple(sorted(sites, key=lambda site: (site.num_bytes is not None, -(site.num_bytes or 0), -site.count)))
