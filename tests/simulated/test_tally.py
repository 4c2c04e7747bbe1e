"""What a run does is counted by stage: calls of regions, products, copies in both directions, other streams."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bagel_perf.measure.tally import tallying
from bagel_perf.simulated import SimulatedCuda
from bagel_perf.simulated.streams import POLLED
from bagel_perf.syncs.regions import region


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


def through_a_context() -> None:
    with torch.cuda.StreamContext(torch.cuda.Stream()):
        pass


def through_the_accelerator() -> None:
    torch.accelerator.set_stream(torch.Stream())


def through_an_alias() -> None:
    with KEPT["stream"](torch.cuda.Stream()):
        pass


KEPT: dict[str, Any] = {}
WAYS = [through_stream, through_the_stream_itself, through_set_stream, through_a_context, through_the_accelerator]


@pytest.mark.parametrize("move", [*WAYS, through_an_alias])
def test_work_on_another_stream_is_counted_by_its_line(move: Callable[[], None]) -> None:
    with SimulatedCuda() as device:
        KEPT["stream"] = torch.cuda.stream
        with tallying(device) as tally, region("dit"):
            move()
    line = move.__code__.co_firstlineno + 1
    assert tally.by_stage == {"dit": {f"side streams at tests/simulated/test_tally.py:{line} in {move.__name__}": 1}}


def test_to_go_back_or_to_stay_is_no_move() -> None:
    with SimulatedCuda() as device, tallying(device) as tally, region("dit"), torch.cuda.stream(None):
        torch.cuda.set_stream(torch.cuda.default_stream())
        with torch.cuda.stream(torch.cuda.current_stream()):
            pass
    assert tally.by_stage == {}


def worked(x: torch.Tensor) -> None:
    torch.tensordot(x, x, 2)
    x.mv(x[0])
    F.conv1d(x[None], x[None])
    (x[:, None] * x).sum(-1)
    torch.rand(2, device="cuda")
    x.view(-1).t().detach()
    with torch.inference_mode():
        torch.matmul(x, x)


def test_operators_are_counted_by_line_as_what_they_come_down_to() -> None:
    with SimulatedCuda() as device:
        x = torch.ones(2, 2, device="cuda")
        with tallying(device, by_line=True) as tally, region("dit"):
            worked(x)
    line = worked.__code__.co_firstlineno
    found = {name.partition(" in ")[0].rpartition("/")[2]: count for name, count in tally.by_stage["dit"].items()}
    assert found == {
        f"test_tally.py:{line + 1}": 1,
        f"test_tally.py:{line + 2}": 1,
        f"test_tally.py:{line + 3}": 1,
        f"test_tally.py:{line + 4}": 2,
        f"test_tally.py:{line + 5}": 1,
        f"test_tally.py:{line + 8}": 1,
    }
    kinds = [name.partition(" at ")[0] for name in tally.by_stage["dit"]]
    assert kinds == ["products", "products", "convolutions", "operators", "random numbers", "products"]


def test_threads_are_counted_with_what_they_do_in_the_stage_that_runs() -> None:
    with SimulatedCuda() as device:
        x = torch.ones(2, 2, device="cuda")
        with tallying(device) as tally:
            tally.stage = "dit"
            thread = threading.Thread(target=x.mm, args=(x,))
            thread.start()
            thread.join()
    assert [(name.partition(" at ")[0], count) for name, count in tally.by_stage["dit"].items()] == [
        ("threads", 1),
        ("products", 1),
    ]


def test_an_event_that_is_asked_is_a_hazard() -> None:
    with SimulatedCuda() as device:
        torch.cuda.Event().query()
        torch.cuda.current_stream().query()
        assert device.hazards == {POLLED: 2}


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
