from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from bagel_perf.harness.simulated import SimulatedDevice
from bagel_perf.harness.syncs import count_host_syncs
from sync_table_cases import FROM_SOURCE, TABLE, Expression, operands

CASES = TABLE + FROM_SOURCE


@pytest.fixture
def device() -> Iterator[SimulatedDevice]:
    with SimulatedDevice() as device:
        yield device


@pytest.mark.parametrize(("expression", "waits"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_an_expression_waits_as_often_as_on_cuda(device: SimulatedDevice, expression: Expression, waits: int) -> None:
    given = operands(device.device)
    with count_host_syncs(device.device) as counter:
        expression(given)
    assert counter.total() == waits
    assert not device.unjudged


UNPINNED = [case for case in CASES if "pin" not in case[0]]  # without a GPU torch pins nothing


@pytest.mark.parametrize("expression", [case[1] for case in UNPINNED], ids=[case[0] for case in UNPINNED])
def test_an_expression_has_the_values_of_the_cpu(expression: Expression) -> None:
    torch.manual_seed(1)
    expected = expression(operands(torch.device("cpu")))
    with SimulatedDevice() as device:
        torch.manual_seed(1)
        result = expression(operands(device.device))
        assert_same(device, result, expected)


def assert_same(device: SimulatedDevice, result: object, expected: object) -> None:
    if isinstance(expected, list | tuple):
        assert isinstance(result, list | tuple) and len(result) == len(expected)
        for one, other in zip(result, expected, strict=True):
            assert_same(device, one, other)
    elif isinstance(expected, Tensor):
        assert isinstance(result, Tensor)
        plain = device.unwrap(result)
        assert plain.dtype == expected.dtype and plain.stride() == expected.stride() and torch.equal(plain, expected)
    else:
        assert type(result) is type(expected)
        assert (result == expected).all() if hasattr(expected, "all") else result == expected  # type: ignore[attr-defined]
