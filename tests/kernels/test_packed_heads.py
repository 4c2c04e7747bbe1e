"""Heads packed as rows are the same attention, and branches side by side are all done."""

from __future__ import annotations

import pytest
import torch

from bagel_perf.subjects.bagel.model.attention import Attention
from kernels_optimized.fused.heads import full, side_by_side


@pytest.mark.parametrize(("num_heads", "num_kv_heads"), [(28, 4), (4, 4), (4, 1)])
def test_packed_heads_give_the_same_attention(num_heads: int, num_kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(5, num_heads, 16, generator=generator)
    k, v = (torch.randn(9, num_kv_heads, 16, generator=generator) for _ in range(2))
    attention = Attention(backend="math", on_cuda=False)
    packed_q = q.unflatten(1, (num_kv_heads, -1)).transpose(1, 2).flatten(1, 2)
    actual = full(attention, packed_q, k, v, packed=True)
    torch.testing.assert_close(actual, full(attention, q, k, v, packed=False))


def test_without_a_device_branches_run_in_their_order() -> None:
    done: list[int] = []
    side_by_side(done.append, 3, None)
    assert done == [0, 1, 2]
