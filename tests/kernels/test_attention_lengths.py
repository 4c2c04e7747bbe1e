"""Component ``attention_lengths`` gives what a variable-length kernel reads, whichever variant it comes from."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch

from bagel_perf.subjects.bagel.loading import VARIANTS
from bagel_perf.subjects.bagel.model.layout import Lengths


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("query", "kv"), [((6, 6, 6), (31, 23, 14)), ((6,), (31,)), ((6, 6), (16, 6)), ((5, 9, 7), (5, 40, 8))]
)
def test_maxima_and_offsets_are_those_of_the_lengths(variant: str, query: tuple[int, ...], kv: tuple[int, ...]) -> None:
    both = (Lengths(device_B=torch.tensor(lengths), host=lengths) for lengths in (query, kv))
    lengths = VARIANTS[variant].attention_lengths(*both)
    assert (lengths.max_query, lengths.max_kv) == (max(query), max(kv))
    assert lengths.query_offsets.tolist() == [0, *accumulate(query)]
    assert lengths.kv_offsets.tolist() == [0, *accumulate(kv)]
    assert lengths.query_offsets.dtype == lengths.kv_offsets.dtype == torch.int32
