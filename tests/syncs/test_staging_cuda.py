"""Staged copies on a GPU that is busy: each holds the host as the rules say, and is listed with its line."""

from __future__ import annotations

import pytest
import torch

from bagel_perf.syncs import watch_host_syncs

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

BUSY_CYCLES = 60_000_000
BIG = 4 * 1024 * 1024


def kinds_of(copy: str, names: dict[str, object]) -> list[tuple[str, int]]:
    exec(copy, dict(names))
    torch.cuda.synchronize()
    with watch_host_syncs("cuda") as watch:
        torch.cuda._sleep(BUSY_CYCLES)
        exec(copy, dict(names))
    report = watch.report()
    assert report.unexplained == 0
    return [(site.kind, site.count) for site in report.sites]


@pytest.fixture
def names() -> dict[str, object]:
    device = torch.ones(1024, device="cuda")
    return {
        "torch": torch,
        "device": device,
        "host": torch.ones(1024),
        "pinned": torch.ones(1024).pin_memory(),
        "gapped": torch.ones(1024, 2).pin_memory()[:, 0],
        "big": torch.ones(BIG),
    }


@pytest.mark.parametrize(
    "copy",
    [
        "host.copy_(device, non_blocking=True)",
        "host.copy_(device, True)",
        "gapped.copy_(device, non_blocking=True)",
        "big.to('cuda', non_blocking=True)",
        "big.cuda(non_blocking=True)",
    ],
)
def test_a_staged_copy_on_a_busy_gpu_is_a_wait_of_its_own_kind(copy: str, names: dict[str, object]) -> None:
    assert kinds_of(copy, names) == [("staged_copy", 1)]


@pytest.mark.parametrize(
    "copy",
    [
        "pinned.copy_(device, non_blocking=True)",
        "pinned.to('cuda', non_blocking=True)",
        "host.to('cuda', non_blocking=True)",
        "device.to('cpu', non_blocking=True)",
    ],
)
def test_what_is_queued_is_none(copy: str, names: dict[str, object]) -> None:
    assert kinds_of(copy, names) == []
