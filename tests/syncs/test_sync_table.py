from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bagel_perf.simulated import SimulatedDevice
from bagel_perf.syncs import count_host_syncs
from sync_table_cases import FROM_SOURCE, TABLE, Expression, operands

CASES = TABLE + FROM_SOURCE


def outcome(device: SimulatedDevice, expression: Expression) -> str:
    """The number of waits as text, with what cannot be judged."""
    given = operands(device.device)
    device.unjudged.clear()
    with count_host_syncs(device.device) as counter:
        expression(given)
    return " and ".join([str(counter.total()), *device.unjudged])


def test_expressions_wait_as_often_as_on_cuda() -> None:
    with SimulatedDevice() as device:
        found = [(name, outcome(device, expression)) for name, expression, _ in CASES]
    assert found == [(name, str(waits)) for name, _, waits in CASES]


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
