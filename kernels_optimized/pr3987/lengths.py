"""Component ``attention_lengths`` of pull request 3987: the maximum is reduced on the device, and then read."""

from __future__ import annotations

from bagel_perf.subjects.bagel.model.contracts import VarlenLengths
from bagel_perf.subjects.bagel.model.layout import Lengths
from kernels_baseline.lengths import offsets


def attention_lengths(query: Lengths, kv: Lengths) -> VarlenLengths:
    """Maxima and offsets of B segments; waits twice, whatever B is."""
    return VarlenLengths(
        max_query=int(query.device_B.max().item()),  # wait
        max_kv=int(kv.device_B.max().item()),  # wait
        query_offsets=offsets(query.device_B),
        kv_offsets=offsets(kv.device_B),
    )
