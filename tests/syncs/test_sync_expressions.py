"""The simulated device waits as often as a GPU did over a second catalogue of expressions, in each mode of autograd."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import count_host_syncs
from modes import MODES, fits, in_mode
from sync_expressions import EXPRESSIONS, LIBRARY_WAITS, evaluate, names

OPEN = {
    *LIBRARY_WAITS,
    "torch.linalg.matrix_exp(x)",  # values decide
    # A library waited inside on other matrices.
    "torch.cholesky_inverse(x @ x.T + torch.eye(8, device=d))",
    "torch.cholesky_inverse(torch.eye(64, device=d))",
}
NUM_IN_A_TEST = 40
JUDGED = [(expression, waits) for expression, waits in EXPRESSIONS if expression not in OPEN]
GROUPS = [JUDGED[start : start + NUM_IN_A_TEST] for start in range(0, len(JUDGED), NUM_IN_A_TEST)]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What torch says of prototypes and of old interfaces."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def outcome(device: SimulatedCuda, mode: str, expression: str) -> str:
    """The number of waits as text, with what cannot be judged; the error of an expression that does not run."""
    known = names("cuda")
    device.unjudged.clear()
    with count_host_syncs("cuda") as counter:
        try:
            in_mode(mode, lambda: evaluate(expression, known))
        except Exception as problem:
            return f"{type(problem).__name__}: {problem}"
    return " and ".join([str(counter.total()), *device.unjudged])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("group", GROUPS, ids=[group[0][0] for group in GROUPS])
def test_expressions_wait_as_often_as_measured(group: list[tuple[str, int]], mode: str) -> None:
    with SimulatedCuda() as device:
        wrong = {
            expression: f"{found}, not {waits}"
            for expression, waits in group
            if fits(mode, expression) and (found := outcome(device, mode, expression)) != str(waits)
        }
    assert wrong == {}


@pytest.mark.parametrize("mode", MODES)
def test_what_depends_on_a_library_or_on_values_is_named_and_not_guessed(mode: str) -> None:
    with SimulatedCuda() as device:
        told = {expression: outcome(device, mode, expression) for expression in sorted(OPEN)}
    assert {expression for expression, text in told.items() if " and " not in text} == set()
