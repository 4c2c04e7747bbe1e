"""Component ``branch_offsets`` as upstream: rows that the host packed are summed on the device and read back.

Places name vLLM-Omni's vllm_omni/diffusion/models/bagel/bagel_transformer.py at commit eb4e60ee ("bt").
"""

from __future__ import annotations

from bagel_perf.subjects.bagel.model.layout import BranchOffsets, Lengths


def branch_offsets(sequence: Lengths, past: Lengths) -> BranchOffsets:
    """Where each of B branches begins; waits 1 + B times: once for the query block, once for each context."""
    num_rows = int(sequence.device_B.sum())  # wait (bt:1950)
    queries, merged = [], []
    start = 0
    for branch, length in enumerate(past.device_B.split(1)):
        queries.append(branch * num_rows)
        merged.append(start)
        start += int(length.sum()) + num_rows  # wait: one per branch (bt:1979)
    return BranchOffsets(queries=tuple(queries), merged=tuple(merged))
