"""The second catalogue once more, on a GPU: CUDA's callbacks count as they did, and the debug mode agrees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import sync_expressions
from bagel_perf.harness.syncs import watch_host_syncs
from bagel_perf.harness.torch_names import dynamo_counters

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    """Where something was compiled, calls are not watched and waits have no kind: that must not outlive its test."""
    yield
    dynamo_counters().clear()


@pytest.mark.parametrize(("expression", "waits"), sync_expressions.EXPRESSIONS)
def test_an_expression_waits_as_often_as_measured_and_two_witnesses_agree(expression: str, waits: int) -> None:
    sync_expressions.evaluate(expression, sync_expressions.names("cuda"))  # the first call may load and allocate
    names = sync_expressions.names("cuda")
    with watch_host_syncs("cuda") as watch:
        sync_expressions.evaluate(expression, names)
    report = watch.report()
    assert (report.host_syncs, report.unexplained) == (waits, 0)
