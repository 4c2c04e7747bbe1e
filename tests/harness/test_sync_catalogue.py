"""The simulated device waits as often as a GPU did, over hundreds of expressions, and says where it cannot tell."""

from __future__ import annotations

import pytest

from bagel_perf.harness.simulated.cuda import SimulatedCuda
from bagel_perf.harness.syncs import count_host_syncs
from modes import MODES, fits, in_mode
from sync_catalogue import DEPENDS_ON_DATA, EXPRESSIONS, LIBRARY_WAITS, OPEN_STEPS, STEPS, evaluate
from sync_table_cases import operands

OPEN = LIBRARY_WAITS | DEPENDS_ON_DATA
JUDGED = [(expression, waits) for expression, waits in EXPRESSIONS if expression not in OPEN]


@pytest.mark.parametrize(
    ("mode", "expression", "waits"),
    [(mode, expression, waits) for mode in MODES for expression, waits in JUDGED if fits(mode, expression)],
)
def test_an_expression_waits_as_often_as_measured(mode: str, expression: str, waits: int) -> None:
    with SimulatedCuda() as device:
        o = operands(device.device)
        with count_host_syncs("cuda") as counter:
            in_mode(mode, lambda: evaluate(expression, o))
    assert (counter.total(), dict(device.unjudged)) == (waits, {})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("expression", sorted(OPEN))
def test_what_depends_on_a_library_or_on_values_is_named_and_not_guessed(expression: str, mode: str) -> None:
    with SimulatedCuda() as device:
        o = operands(device.device)
        in_mode(mode, lambda: evaluate(expression, o))
    assert device.unjudged


@pytest.mark.parametrize("name", STEPS)
def test_a_step_waits_as_often_as_measured(name: str) -> None:
    make, waits = STEPS[name]
    with SimulatedCuda() as device:
        step = make(operands(device.device))
        step()
        device.unjudged.clear()
        with count_host_syncs("cuda") as counter:
            step()
    assert (counter.total(), dict(device.unjudged)) == (waits, {})


@pytest.mark.parametrize("name", OPEN_STEPS)
def test_a_step_that_cannot_be_judged_is_named_and_not_guessed(name: str) -> None:
    with SimulatedCuda() as device:
        OPEN_STEPS[name](operands(device.device))()
    assert device.unjudged
