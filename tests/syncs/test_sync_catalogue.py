"""The simulated device waits as often as a GPU did, over hundreds of expressions, and says where it cannot tell."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import count_host_syncs
from modes import MODES, fits, in_mode
from sync_catalogue import DEPENDS_ON_DATA, EXPRESSIONS, LIBRARY_WAITS, OPEN_STEPS, STEPS, evaluate
from sync_table_cases import operands

OPEN = LIBRARY_WAITS | DEPENDS_ON_DATA
JUDGED = {expression: waits for expression, waits in EXPRESSIONS if expression not in OPEN}


def outcome(device: SimulatedCuda, run: Callable[[], object]) -> str:
    """The number of waits as text, with what cannot be judged; the error of what does not run."""
    device.unjudged.clear()
    with count_host_syncs("cuda") as counter:
        try:
            run()
        except Exception as problem:
            return f"{type(problem).__name__}: {problem}"
    return " and ".join([str(counter.total()), *device.unjudged])


def outcome_in(mode: str, device: SimulatedCuda, expression: str) -> str:
    o = operands(device.device)
    return outcome(device, lambda: in_mode(mode, lambda: evaluate(expression, o)))


def test_no_expression_is_there_twice() -> None:
    assert len({expression for expression, _ in EXPRESSIONS}) == len(EXPRESSIONS)


@pytest.mark.parametrize("mode", MODES)
def test_expressions_wait_as_often_as_measured(mode: str) -> None:
    expected = {expression: str(waits) for expression, waits in JUDGED.items() if fits(mode, expression)}
    with SimulatedCuda() as device:
        found = {expression: outcome_in(mode, device, expression) for expression in expected}
    assert found == expected


@pytest.mark.parametrize("mode", MODES)
def test_what_depends_on_a_library_or_on_values_is_named_and_not_guessed(mode: str) -> None:
    with SimulatedCuda() as device:
        told = {expression: outcome_in(mode, device, expression) for expression in sorted(OPEN)}
    assert [(expression, text) for expression, text in told.items() if " and " not in text] == []


def test_steps_wait_as_often_as_measured() -> None:
    found = {}
    with SimulatedCuda() as device:
        for name, (make, _) in STEPS.items():
            step = make(operands(device.device))
            step()
            found[name] = outcome(device, step)
    assert found == {name: str(waits) for name, (_, waits) in STEPS.items()}


def test_steps_that_cannot_be_judged_are_named_and_not_guessed() -> None:
    with SimulatedCuda() as device:
        told = {name: outcome(device, make(operands(device.device))) for name, make in OPEN_STEPS.items()}
    assert [(name, text) for name, text in told.items() if " and " not in text] == []
