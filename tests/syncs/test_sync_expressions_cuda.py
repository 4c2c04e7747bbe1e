"""The second catalogue once more, on a GPU: CUDA's callbacks count as they did, and the debug mode agrees."""

from __future__ import annotations

import pytest
import torch

import sync_expressions
from bagel_perf.rules.torch_names import dynamo_counters
from bagel_perf.syncs import watch_host_syncs

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


NUM_IN_A_TEST = 40
EXPRESSIONS = sync_expressions.EXPRESSIONS
GROUPS = [EXPRESSIONS[start : start + NUM_IN_A_TEST] for start in range(0, len(EXPRESSIONS), NUM_IN_A_TEST)]


def outcome(expression: str) -> tuple[int, int] | str:
    """The number of waits and how many of them nothing explains; the error of an expression that does not run."""
    try:
        sync_expressions.evaluate(expression, sync_expressions.names("cuda"))  # the first call may load and allocate
        names = sync_expressions.names("cuda")
        with watch_host_syncs("cuda") as watch:
            sync_expressions.evaluate(expression, names)
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"
    finally:  # where something was compiled, calls are not watched and waits have no kind: that must not outlive it
        dynamo_counters().clear()
    report = watch.report()
    return report.host_syncs, report.unexplained


@pytest.mark.parametrize("group", GROUPS, ids=[group[0][0] for group in GROUPS])
def test_expressions_wait_as_often_as_measured_and_two_witnesses_agree(group: list[tuple[str, int]]) -> None:
    found = [(expression, outcome(expression)) for expression, _ in group]
    assert found == [(expression, (waits, 0)) for expression, waits in group]
