"""Component ``branch_offsets`` without waits: the host sums its own copy of the lengths."""

from __future__ import annotations

from itertools import accumulate

from bagel_perf.subjects.bagel.model.layout import BranchOffsets, Lengths


def branch_offsets(sequence: Lengths, past: Lengths) -> BranchOffsets:
    """Where each of B branches begins."""
    num_rows = sum(sequence.host)
    merged = list(accumulate((length + num_rows for length in past.host), initial=0))[:-1]
    return BranchOffsets(queries=tuple(branch * num_rows for branch in range(len(merged))), merged=tuple(merged))
