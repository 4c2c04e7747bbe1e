"""Component ``merge_kv`` of pull request 3987: lengths are summed by a reduction; the sum is still read.

Suffixes: P cached rows, T query rows, S merged rows, K KV heads, E head size.
"""

from __future__ import annotations

from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import LayerCache
from bagel_perf.subjects.bagel.model.layout import QueryLayout
from kernels_baseline.merge import fill


def merge_kv(cache: LayerCache, key_TKE: Tensor, value_TKE: Tensor, layout: QueryLayout) -> tuple[Tensor, Tensor]:
    """Keys and values of all branches, context before query; waits twice."""
    num_rows = layout.past.device_B.sum() + layout.queries.device_B.sum()
    merged_SKE = key_TKE.new_zeros((num_rows, *key_TKE.shape[1:]))  # type: ignore[arg-type]  # wait
    key_SKE = fill(merged_SKE, cache.key_PKE, key_TKE, layout)
    merged_SKE = value_TKE.new_zeros((num_rows, *value_TKE.shape[1:]))  # type: ignore[arg-type]  # wait
    return key_SKE, fill(merged_SKE, cache.value_PKE, value_TKE, layout)
