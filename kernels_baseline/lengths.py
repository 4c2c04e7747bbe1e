"""Component ``attention_lengths`` as upstream: Python's ``max`` compares the elements of a device tensor one by one.

Places name vLLM-Omni's vllm_omni/diffusion/models/bagel/bagel_transformer.py at commit eb4e60ee ("bt").
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import VarlenLengths
from bagel_perf.subjects.bagel.model.layout import Lengths


def attention_lengths(query: Lengths, kv: Lengths) -> VarlenLengths:
    """Maxima and offsets of B segments; waits 2B times: B - 1 comparisons and one read for each maximum."""
    return VarlenLengths(
        max_query=int(max(query.device_B).item()),  # wait: B (bt:625)
        max_kv=int(max(kv.device_B).item()),  # wait: B (bt:626)
        query_offsets=offsets(query.device_B),
        kv_offsets=offsets(kv.device_B),
    )


def offsets(lengths_B: Tensor) -> Tensor:
    """Where each segment starts, and the end: int32 [B + 1]."""
    return F.pad(lengths_B.cumsum(0), (1, 0)).int()
