"""Waits of backward passes that no operator shows where somebody looks: autograd then takes other formulas."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import count_host_syncs

HOST_INDEX, HOST_MASK = torch.tensor([1, 2]), torch.arange(8) % 2 == 0
CASES: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], int]] = {
    "x[[1, 2]]: a list is uploaded once": (lambda x, m, v: x[[1, 2]], 1),
    "x[host]: a host tensor in either pass": (lambda x, m, v: x[HOST_INDEX], 2),
    "x[host mask]": (lambda x, m, v: x[HOST_MASK], 0),
    "x[mask]: in either pass": (lambda x, m, v: x[m], 2),
    "index_put by a host mask": (lambda x, m, v: (x * 1).index_put((HOST_MASK,), v), 0),
    "masked_fill with a number": (lambda x, m, v: x.masked_fill(m, 0.5), 0),
    "masked_fill with a device scalar": (lambda x, m, v: x.masked_fill(m, v.detach()), 1),
    "masked_fill with one that needs a gradient": (lambda x, m, v: x.masked_fill(m, v), 2),
    "prod": (lambda x, m, v: x.prod(), 1),
    "prod of a scalar": (lambda x, m, v: v.prod(), 0),
    "cumprod": (lambda x, m, v: x.cumprod(0), 1),
    "cumprod of one element": (lambda x, m, v: x[0, :1].cumprod(0), 0),
    "linalg.vander, which calls cumprod": (lambda x, m, v: torch.linalg.vander(x[0]), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_both_passes_wait_as_often_as_on_a_gpu(name: str) -> None:
    function, waits = CASES[name]
    with SimulatedCuda() as device:
        x = (torch.rand(8, 8) + 0.5).to("cuda").requires_grad_()
        mask, value = (torch.arange(8) % 2 == 0).to("cuda"), torch.tensor(0.5, device="cuda", requires_grad=True)
        with count_host_syncs("cuda") as counter:
            function(x, mask, value).sum().backward()
        assert (counter.total(), dict(device.unjudged)) == (waits, {})


@pytest.mark.parametrize(
    "step",
    [
        lambda x, rate: x.add_(x, alpha=rate),
        lambda x, rate: x.addcdiv_(x, x + 1, value=rate),
        lambda x, rate: x.addcmul_(x, x, value=-rate),
    ],
)
def test_a_host_scalar_in_the_place_of_a_number_is_read_without_a_wait(
    step: Callable[[Tensor, Tensor], Tensor],
) -> None:
    with SimulatedCuda():
        x = torch.rand(8, device="cuda")
        with count_host_syncs("cuda") as on_host:
            step(x, torch.tensor(1e-3))
        rate = torch.tensor(1e-3, device="cuda")
        with count_host_syncs("cuda") as on_device:
            step(x, rate)
    assert (on_host.total(), on_device.total()) == (0, 1)
