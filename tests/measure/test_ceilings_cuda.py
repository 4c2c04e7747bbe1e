"""Ceilings lie where a GPU's do: under its data sheet, and not far below."""

from __future__ import annotations

import pytest
import torch

from bagel_perf.measure.device_work import attention_us, copy_tbps, gemm_us, launch_us

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

DEVICE = torch.device("cuda")


def test_a_large_product_is_faster_per_operation_than_a_small_one() -> None:
    small, large = (2 * rows * 4096 * 4096 / gemm_us(rows, 4096, 4096, DEVICE) for rows in (16, 8192))
    assert 0 < 5 * small < large < 2e9  # 2 PFLOP/s, in FLOP per us


def test_a_product_of_few_rows_reads_its_weights_from_memory() -> None:
    num_bytes = 2 * 4096 * 16384
    # Reading alone is faster than a copy (1.52 times on an H200); an L2 cache would be several times as fast.
    assert num_bytes / gemm_us(6, 4096, 16384, DEVICE) / 1e6 < 2 * copy_tbps(DEVICE)


def test_a_launch_takes_microseconds() -> None:
    assert 0.5 < launch_us(DEVICE) < 100


def test_attention_of_twice_the_keys_takes_longer() -> None:
    times = [
        attention_us(
            lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v),
            ((1, 8, 2048, 128), (1, 8, keys, 128), (1, 8, keys, 128)),
            DEVICE,
        )
        for keys in (4096, 8192)
    ]
    assert 1.5 < times[1] / times[0] < 3
