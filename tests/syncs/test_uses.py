"""Whether anything ran on the device: told of the whole, and of each region that has a budget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from bagel_perf.records.errors import Inconclusive
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import region, watch_host_syncs
from bagel_perf.syncs.budgets import uses_of_cuda


@pytest.fixture
def x() -> Iterator[Tensor]:
    """A device tensor from before the watch."""
    with SimulatedCuda():
        yield torch.ones(4, device="cuda")


USES: list[Callable[[Tensor], object]] = [
    lambda x: x + 1,
    lambda x: x.add_(1),
    lambda x: torch.empty(0, device="cuda"),
    lambda x: torch.nn.Linear(2, 2, device="cuda"),
    lambda x: torch.nn.Linear(2, 2).to("cuda"),
    lambda x: torch.ones(2).cuda(non_blocking=True),
    lambda x: x.item() if x.numel() == 1 else x.tolist(),
    lambda x: torch.cuda.synchronize(),
    lambda x: x[1:3],
    lambda x: torch.ops.aten.add(x, 1),
    lambda x: torch.stack([x, x]),
    lambda x: torch.tensor([1, 2], device="cuda"),
    lambda x: x.untyped_storage().cpu(),
]
NO_USES: list[Callable[[Tensor], object]] = [
    lambda x: None,
    lambda x: torch.ones(3) + 1,
    lambda x: torch.nn.Linear(2, 2)(torch.ones(2)).sum().backward(),
    lambda x: (x.shape, x.device, x.dtype, x.size(0), x.dim(), len(x), x.is_cuda, x.numel(), x.is_contiguous()),
    lambda x: (torch.cuda.is_available(), torch.cuda.get_device_name(), torch.cuda.mem_get_info()),
    lambda x: (torch.cuda.Event(), torch.cuda.Stream(), torch.cuda.current_stream()),
    lambda x: torch.manual_seed(1),
]


@pytest.mark.parametrize("work", USES)
def test_a_use_is_noticed_in_all_and_in_its_region(x: Tensor, work: Callable[[Tensor], object]) -> None:
    with watch_host_syncs("cuda", budgets={"": 9, "step": 9}) as watch:
        told = [watch.used_device]
        with region("step"):
            work(x)
        told.append(watch.used_device)
    assert told == [False, True]
    assert watch.report().used_device and {check.used_device for check in watch.budgets if check.region} == {True}


@pytest.mark.parametrize("work", NO_USES)
def test_what_is_no_use_leaves_the_budgets_open(x: Tensor, work: Callable[[Tensor], object]) -> None:
    watching = watch_host_syncs("cuda", budgets={"": 0, "step": 0})
    watch = watching.__enter__()
    with region("step"):
        work(x)
    with pytest.raises(Inconclusive, match=r"budgets are open \(the whole, step\); nothing ran on the device"):
        watching.__exit__(None, None, None)
    assert watch.report().used_device is False


def test_a_region_that_used_nothing_is_open_while_others_are_kept(x: Tensor) -> None:
    watching = watch_host_syncs("cuda", budgets={"": 0, "cpu": 0, "step": 0})
    watch = watching.__enter__()
    with region("step"):
        x + 1
        with region("cpu"):
            torch.ones(2) + 1
    with pytest.raises(
        Inconclusive, match=r"budgets are open \(cpu\); nothing ran on the device in region cpu"
    ) as caught:
        watching.__exit__(None, None, None)
    assert caught.value.exit_code == 4 and watch.report().used_device


def test_one_entry_that_used_the_device_is_enough(x: Tensor) -> None:
    with watch_host_syncs("cuda", budgets={"step": 0}):
        for number in range(3):
            with region("step"):
                _ = x + 1 if number == 1 else None


def test_another_threads_use_is_not_the_regions(x: Tensor) -> None:
    watching = watch_host_syncs("cuda", budgets={"cpu": 0})
    watch = watching.__enter__()
    with region("cpu"):
        thread = threading.Thread(target=lambda: [x + 1 for _ in range(3)])
        thread.start()
        thread.join()
    with pytest.raises(Inconclusive, match="nothing ran on the device in region cpu"):
        watching.__exit__(None, None, None)
    assert watch.report().used_device is True


def test_an_allowed_wait_is_a_use(x: Tensor) -> None:
    from bagel_perf.syncs import allow_sync

    with watch_host_syncs("cuda", budgets={"step": 0}), region("step"), allow_sync("meant"):
        x.tolist()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ((5, 0), (5, 0), []),
        ((5, 0), (6, 0), [True]),
        ((5, 1), (9, 2), [True]),
        ((5, 1), (5, 1), [None]),
        ((5, 1), (5, 0), [None]),
    ],
)
def test_on_cuda_allocations_tell_of_uses(before: Any, after: Any, told: list[bool | None]) -> None:
    numbers, found = iter([before, after]), []

    def notice(used: bool | None) -> bool:
        found.append(used)
        return True

    with uses_of_cuda(lambda: next(numbers))(notice):
        pass
    assert found == told
