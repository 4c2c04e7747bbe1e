"""Names below torch.cuda that packages ask for: sensible values, or a refusal by name; gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from bagel_perf.records.sites import Kind
from bagel_perf.simulated import NotSimulated, SimulatedCuda

NATIVE: Any = torch._C
CUDA: Any = torch.cuda


@pytest.fixture
def waits() -> list[Kind]:
    return []


@pytest.fixture
def device(waits: list[Kind]) -> Iterator[SimulatedCuda]:
    with SimulatedCuda(waits.append) as device:
        yield device


ANSWERS: dict[str, tuple[Any, Any]] = {
    "raw stream": (lambda: NATIVE._cuda_getCurrentRawStream(0), 0),
    "number of devices": (lambda: NATIVE._cuda_getDeviceCount(), 1),
    "is compiled": (lambda: CUDA._is_compiled(), True),
    "bad fork": (lambda: CUDA._is_in_bad_fork(), False),
    "memory": (lambda: CUDA.cudart().cudaMemGetInfo(0)[0] > 0, True),
    "registering": (lambda: CUDA.cudart().cudaHostRegister(0, 8, 0), 0),
    "exchange": (lambda: CUDA._exchange_device(0), 0),
    "nvml": (lambda: CUDA._raw_device_count_nvml(), 1),
    "snapshot": (lambda: CUDA.memory._snapshot()["segments"], []),
    "history": (lambda: CUDA.memory._record_memory_history(), None),
    "device index": (lambda: CUDA._utils._get_device_index("cuda:0"), 0),
    "nccl": (lambda: CUDA.nccl.version()[0], 2),
    "tuning": (lambda: CUDA.tunable.is_enabled(), False),
    "properties": (lambda: CUDA.get_device_properties(0).clock_rate > 0, True),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_private_name_answers(device: SimulatedCuda, waits: list[Kind], name: str) -> None:
    ask, expected = ANSWERS[name]
    assert ask() == expected and waits == []


def test_asking_for_synchronization_below_the_public_names_waits_too(device: SimulatedCuda, waits: list[Kind]) -> None:
    NATIVE._cuda_synchronize()
    assert waits == ["explicit_sync"]


@pytest.mark.parametrize("name", ["_cuda_getCurrentBlasHandle", "_nccl_all_reduce", "_cuda_CUDAAllocator"])
def test_what_is_not_there_is_refused_by_name(device: SimulatedCuda, name: str) -> None:
    with pytest.raises(NotSimulated, match=name):
        getattr(NATIVE, name)()


def test_the_names_are_as_before_afterwards() -> None:
    before = {name: getattr(NATIVE, name, None) for name in ("_cuda_getDeviceCount", "_has_cuda", "_nccl_version")}
    with SimulatedCuda():
        assert NATIVE._has_cuda
    assert before == {name: getattr(NATIVE, name, None) for name in before}
