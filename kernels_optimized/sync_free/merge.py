"""Component ``merge_kv`` without waits: the size of the merged cache is a sum on the host.

Suffixes: P cached rows, T query rows, S merged rows, K KV heads, E head size.
"""

from __future__ import annotations

from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import LayerCache
from bagel_perf.subjects.bagel.model.layout import QueryLayout
from kernels_baseline.merge import fill


def merge_kv(cache: LayerCache, key_TKE: Tensor, value_TKE: Tensor, layout: QueryLayout) -> tuple[Tensor, Tensor]:
    """Keys and values of all branches, context before query."""
    num_rows = sum(layout.past.host) + sum(layout.queries.host)
    merged_SKE = key_TKE.new_zeros((num_rows, *key_TKE.shape[1:]))
    key_SKE = fill(merged_SKE, cache.key_PKE, key_TKE, layout)
    merged_SKE = value_TKE.new_zeros((num_rows, *value_TKE.shape[1:]))
    return key_SKE, fill(merged_SKE, cache.value_PKE, value_TKE, layout)
