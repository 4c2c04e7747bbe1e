"""The catalogue once more, on a GPU."""

from __future__ import annotations

import pytest
import torch

from bagel_perf.harness.syncs import watch_host_syncs
from sync_catalogue import EXPRESSIONS, OPEN_STEPS, STEPS, evaluate
from sync_table_cases import operands

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize(("expression", "waits"), EXPRESSIONS, ids=[expression for expression, _ in EXPRESSIONS])
def test_an_expression_waits_as_often_as_measured_and_two_witnesses_agree(expression: str, waits: int) -> None:
    device = torch.device("cuda")
    evaluate(expression, operands(device))  # the first call of an operation may load and allocate
    o = operands(device)
    with watch_host_syncs(device) as watch:
        evaluate(expression, o)
    report = watch.report()
    assert (report.host_syncs, report.unexplained) == (waits, 0)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_waits_as_often_as_measured_and_two_witnesses_agree(name: str) -> None:
    make, waits = STEPS[name]
    step = make(operands(torch.device("cuda")))
    step()
    with watch_host_syncs("cuda") as watch:
        step()
    report = watch.report()
    assert (report.host_syncs, report.unexplained) == (waits, 0)


@pytest.mark.parametrize("name", OPEN_STEPS)
def test_of_an_open_step_two_witnesses_agree(name: str) -> None:
    step = OPEN_STEPS[name](operands(torch.device("cuda")))
    step()
    with watch_host_syncs("cuda") as watch:
        step()
    assert watch.report().unexplained == 0
