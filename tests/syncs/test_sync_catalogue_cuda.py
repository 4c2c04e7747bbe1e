"""The catalogue once more, on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bagel_perf.syncs import watch_host_syncs
from sync_catalogue import EXPRESSIONS, OPEN_STEPS, STEPS, evaluate
from sync_table_cases import Operands, operands

NUM_IN_A_TEST = 40

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def outcome(prepare: Callable[[], object], run: Callable[[], object]) -> tuple[int, int] | str:
    """The number of waits and how many of them nothing explains, of the second of two runs; the error of one."""
    try:
        prepare()  # the first call of an operation may load and allocate
        with watch_host_syncs("cuda") as watch:
            run()
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"
    report = watch.report()
    return report.host_syncs, report.unexplained


def of_expression(expression: str) -> tuple[int, int] | str:
    o = operands(torch.device("cuda"))
    return outcome(lambda: evaluate(expression, operands(torch.device("cuda"))), lambda: evaluate(expression, o))


def of_step(make: Callable[[Operands], Callable[[], object]]) -> tuple[int, int] | str:
    step = make(operands(torch.device("cuda")))
    return outcome(step, step)


@pytest.mark.parametrize("start", range(0, len(EXPRESSIONS), NUM_IN_A_TEST))
def test_expressions_wait_as_often_as_measured_and_two_witnesses_agree(start: int) -> None:
    group = EXPRESSIONS[start : start + NUM_IN_A_TEST]
    found = [(expression, of_expression(expression)) for expression, _ in group]
    assert found == [(expression, (waits, 0)) for expression, waits in group]


def test_steps_wait_as_often_as_measured_and_two_witnesses_agree() -> None:
    found = {name: of_step(make) for name, (make, _) in STEPS.items()}
    assert found == {name: (waits, 0) for name, (_, waits) in STEPS.items()}


def test_of_open_steps_two_witnesses_agree() -> None:
    found = {name: of_step(make) for name, make in OPEN_STEPS.items()}
    assert [(name, each) for name, each in found.items() if isinstance(each, str) or each[1] != 0] == []
