"""Whatever ends the worker reaches the user as one line with a remedy."""

from __future__ import annotations

import pytest
import torch

from bagel_perf.worker import as_failure


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 356.00 MiB. " + "More words. " * 50),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    ],
)
def test_every_kind_of_full_memory_is_called_that(error: Exception) -> None:
    failure = as_failure(error)
    assert failure.exit_code == 6
    assert str(failure).startswith("out of memory (")
    assert str(failure).endswith("use a smaller request or model, or --device cpu")
    assert len(str(failure)) < 220


def test_a_cuda_error_of_many_lines_keeps_the_first_and_its_traceback_as_a_note() -> None:
    failure = as_failure(RuntimeError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA"))
    assert "device-side assert triggered" in str(failure)
    assert "TORCH_USE_CUDA_DSA" not in str(failure)
    assert "TORCH_USE_CUDA_DSA" in failure.__notes__[0]


def test_an_error_without_words_is_named_by_its_class() -> None:
    assert str(as_failure(AssertionError())) == "the worker failed (AssertionError); --debug shows where"
