"""What a run does is counted by stage: calls of regions, products, copies in both directions, other streams."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from bagel_perf.harness.regions import region
from bagel_perf.harness.simulated import SimulatedCuda
from bagel_perf.harness.tally import tallying


def test_calls_products_and_copies_are_counted_in_their_stage() -> None:
    with SimulatedCuda() as device, tallying(device) as tally:
        torch.ones(2, 2).cuda()  # outside of every stage
        with region("ar"):
            x = torch.ones(4, 4).pin_memory().to("cuda", non_blocking=True)
            for _ in range(3):
                with region("layer"):
                    x = F.linear(x @ x, x)
        with region("dit"):
            F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None])
            x.to("cpu", non_blocking=True)
            x.cpu()
    assert tally.by_stage == {
        "ar": {"uploads": 1, "calls of layer": 3, "products": 6},
        "dit": {"attentions": 1, "downloads": 2},
    }


def through_stream() -> None:
    with torch.cuda.stream(torch.cuda.Stream()):
        pass


def through_the_stream_itself() -> None:
    with torch.cuda.Stream():
        pass


def through_set_stream() -> None:
    torch.cuda.set_stream(torch.cuda.Stream())


@pytest.mark.parametrize("move", [through_stream, through_the_stream_itself, through_set_stream])
def test_work_on_another_stream_is_counted_by_its_line(move: Callable[[], None]) -> None:
    with SimulatedCuda() as device, tallying(device) as tally, region("dit"):
        move()
    line = move.__code__.co_firstlineno + 1
    assert tally.by_stage == {"dit": {f"side streams at tests/harness/test_tally.py:{line} in {move.__name__}": 1}}


def test_nothing_stays_patched() -> None:
    with SimulatedCuda() as cuda:
        inside = torch.cuda.stream, torch.cuda.set_stream, torch.cuda.Stream.__enter__
        with tallying(cuda):
            pass
        assert (torch.cuda.stream, torch.cuda.set_stream, torch.cuda.Stream.__enter__) == inside


def test_an_empty_copy_is_none() -> None:
    with SimulatedCuda() as device, tallying(device) as tally, region("ar"):
        torch.ones(0).cuda()
    assert tally.by_stage == {}
