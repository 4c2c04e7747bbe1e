"""Component ``attention_lengths`` without waits: the host takes the maxima of its own copy of the lengths."""

from __future__ import annotations

from bagel_perf.subjects.bagel.model.contracts import VarlenLengths
from bagel_perf.subjects.bagel.model.layout import Lengths
from kernels_baseline.lengths import offsets


def attention_lengths(query: Lengths, kv: Lengths) -> VarlenLengths:
    """Maxima and offsets of B segments."""
    return VarlenLengths(
        max_query=max(query.host),
        max_kv=max(kv.host),
        query_offsets=offsets(query.device_B),
        kv_offsets=offsets(kv.device_B),
    )
