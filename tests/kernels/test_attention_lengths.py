"""Slot ``attention_lengths`` gives what a variable-length kernel reads, whichever rung it comes from."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch

from bagel_perf.subjects.bagel.loading import RUNGS
from bagel_perf.subjects.bagel.model.layout import Lengths


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize(
    ("query", "kv"), [((6, 6, 6), (31, 23, 14)), ((6,), (31,)), ((6, 6), (16, 6)), ((5, 9, 7), (5, 40, 8))]
)
def test_maxima_and_offsets_are_those_of_the_lengths(rung: str, query: tuple[int, ...], kv: tuple[int, ...]) -> None:
    both = (Lengths(device_B=torch.tensor(lengths), host=lengths) for lengths in (query, kv))
    lengths = RUNGS[rung].attention_lengths(*both)
    assert (lengths.max_query, lengths.max_kv) == (max(query), max(kv))
    assert lengths.query_offsets.tolist() == [0, *accumulate(query)]
    assert lengths.kv_offsets.tolist() == [0, *accumulate(kv)]
    assert lengths.query_offsets.dtype == lengths.kv_offsets.dtype == torch.int32
