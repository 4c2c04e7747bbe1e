"""Slot ``merge_kv`` without waits: the size of the merged cache is a sum on the host.

Every row is written, so none is zeroed first.

Suffixes: P cached rows, T query rows, S merged rows, K KV heads, E head size.
"""

from __future__ import annotations

from torch import Tensor

from bagel_perf.model.contracts import LayerCache
from bagel_perf.model.layout import QueryLayout


def merge_kv(cache: LayerCache, key_TKE: Tensor, value_TKE: Tensor, layout: QueryLayout) -> tuple[Tensor, Tensor]:
    """Keys and values of all branches, context before query."""
    num_rows = sum(layout.past.host) + sum(layout.queries.host)
    return (
        _merged(num_rows, cache.key_PKE, key_TKE, layout),
        _merged(num_rows, cache.value_PKE, value_TKE, layout),
    )


def _merged(num_rows: int, cached_PKE: Tensor, queried_TKE: Tensor, layout: QueryLayout) -> Tensor:
    merged_SKE = queried_TKE.new_empty((num_rows, *queried_TKE.shape[1:]))
    merged_SKE.index_copy_(0, layout.query_kv_rows_T, queried_TKE)
    return merged_SKE.index_copy_(0, layout.past_kv_rows, cached_PKE)
