"""Exports, fake tensors and tracers: they work on device tensors, or are refused; the process lives on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from bagel_perf.harness.simulated import SimulatedCuda
from bagel_perf.schema.waits import Kind


@pytest.fixture
def waits() -> list[Kind]:
    return []


@pytest.fixture
def device(waits: list[Kind]) -> Iterator[SimulatedCuda]:
    with SimulatedCuda(waits.append) as device:
        yield device


def test_a_module_on_the_device_is_exported_and_runs_there(device: SimulatedCuda, waits: list[Kind]) -> None:
    module, x = nn.Linear(4, 4).to("cuda"), torch.ones(2, 4, device="cuda")
    waits.clear()
    exported = torch.export.export(module, (x,)).module()
    result = exported(x)
    assert result.is_cuda and torch.allclose(device.unwrap(result), device.unwrap(module(x)))
    assert waits == []
