from __future__ import annotations

import pytest
import torch

from bagel_perf.syncs import callbacks_fire, count_host_syncs
from sync_table_cases import FROM_SOURCE, TABLE, Expression, operands

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

CASES = TABLE + FROM_SOURCE


@pytest.mark.parametrize(("expression", "waits"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_an_expression_waits_as_often_on_a_gpu(expression: Expression, waits: int) -> None:
    given = operands(torch.device("cuda"))
    expression(operands(torch.device("cuda")))  # the first call of an operation may load and allocate
    with count_host_syncs("cuda") as counter:
        expression(given)
    assert counter.total() == waits


def test_the_callbacks_of_cuda_fire() -> None:
    assert callbacks_fire()


def test_asking_for_a_synchronization_is_told_apart() -> None:
    stream, event = torch.cuda.current_stream(), torch.cuda.current_stream().record_event()
    with count_host_syncs("cuda") as counter:
        torch.cuda.synchronize()
        stream.synchronize()
        event.synchronize()
        torch.ones(1, device="cuda").item()
    sites = {site.kind: site.count for site in counter.sites()}
    kinds = [site.kind for site in counter.sites()]
    assert kinds.count("explicit_sync") == 3 and sites["scalar_read"] == 1
