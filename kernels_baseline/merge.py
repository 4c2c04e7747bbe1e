"""Component ``merge_kv`` as upstream: the size of the merged cache is a sum on the device, read by whoever allocates.

Places name vLLM-Omni's vllm_omni/diffusion/models/bagel/bagel_transformer.py at commit eb4e60ee ("bt").
Suffixes: P cached rows, T query rows, S merged rows, K KV heads, E head size.
"""

from __future__ import annotations

from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import LayerCache
from bagel_perf.subjects.bagel.model.layout import QueryLayout


def merge_kv(cache: LayerCache, key_TKE: Tensor, value_TKE: Tensor, layout: QueryLayout) -> tuple[Tensor, Tensor]:
    """Keys and values of all branches, context before query; waits twice."""
    num_rows = sum(layout.past.device_B) + sum(layout.queries.device_B)
    merged_SKE = key_TKE.new_zeros((num_rows, *key_TKE.shape[1:]))  # wait (bt:603)
    key_SKE = fill(merged_SKE, cache.key_PKE, key_TKE, layout)
    merged_SKE = value_TKE.new_zeros((num_rows, *value_TKE.shape[1:]))  # wait (bt:605)
    return key_SKE, fill(merged_SKE, cache.value_PKE, value_TKE, layout)


def fill(merged_SKE: Tensor, cached_PKE: Tensor, queried_TKE: Tensor, layout: QueryLayout) -> Tensor:
    """Scatters cached and fresh rows to their places; index tensors on the device do not wait."""
    merged_SKE[layout.query_kv_rows_T] = queried_TKE
    merged_SKE[layout.past_kv_rows] = cached_PKE
    return merged_SKE
