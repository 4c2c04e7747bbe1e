"""Waits for several GPUs, each for its own device, and of collectives, which are none of the program's own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from torch import distributed

from bagel_perf.syncs import watch_host_syncs

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
two_devices = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


def test_a_wait_is_for_the_current_device() -> None:
    x = torch.ones((), device="cuda")
    with watch_host_syncs("cuda") as watch:
        x.item()
        torch.cuda.synchronize()
    assert {(site.device, site.at_work_on, site.library) for site in watch.sites} == {(0, None, None)}


@two_devices
def test_reading_a_tensor_of_another_device_waits_for_that() -> None:
    x, y = torch.ones((), device="cuda:0"), torch.ones((), device="cuda:1")
    with watch_host_syncs("cuda") as watch:
        x.item()
        y.item()
    assert [(site.device, site.at_work_on) for site in watch.sites] == [(0, None), (1, None)]


@two_devices
def test_synchronizing_another_device_by_name_is_told() -> None:
    torch.ones((), device="cuda:1").item()
    with watch_host_syncs("cuda") as watch:
        torch.cuda.synchronize(1)
        torch.cuda.synchronize("cuda:1")
        with torch.cuda.device(1):
            torch.cuda.synchronize()
        torch.cuda.Stream(1).synchronize()
    found = [(site.device, site.at_work_on) for site in sorted(watch.sites, key=lambda site: site.line)]
    assert found == [(1, 0), (1, 0), (1, None), (1, None)]


@two_devices
def test_a_copy_between_devices_is_no_copy_of_the_host() -> None:
    x = torch.ones(4, device="cuda:0")
    with watch_host_syncs("cuda") as watch:
        x.to("cuda:1")
    assert watch.report().copies == ()


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process group of one rank."""
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29533", "RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setitem(os.environ, name, value)
    distributed.init_process_group("nccl", device_id=torch.device("cuda", 0))
    distributed.barrier()
    yield
    distributed.destroy_process_group()


def test_a_barrier_is_nccls_and_a_read_the_programs(group: None) -> None:
    x = torch.ones((), device="cuda")
    with watch_host_syncs("cuda") as watch:
        distributed.all_reduce(x)
        distributed.barrier()
        work = distributed.barrier(async_op=True)
        work.wait()
        x.item()
    by_line = sorted(watch.sites, key=lambda site: site.line)
    *of_nccl, read = by_line  # which of the two barriers holds the host depends on the release
    assert {site.library for site in of_nccl} == {"nccl"} and (read.library, read.kind) == (None, "scalar_read")
