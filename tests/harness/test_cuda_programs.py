"""Spellings, files, training loops: what programs that ask for "cuda" do, on the simulated device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bagel_perf.harness.simulated.cuda import SimulatedCuda
from bagel_perf.harness.syncs import watch_host_syncs


@pytest.fixture
def device() -> Iterator[SimulatedCuda]:
    with SimulatedCuda() as device:
        yield device


def test_the_default_device_is_as_before() -> None:
    with SimulatedCuda():
        torch.set_default_device("cuda")
        assert torch.ones(2).is_cuda
    assert torch.ones(2).device.type == "cpu"


def test_a_second_gpu_is_not(device: SimulatedCuda) -> None:
    with pytest.raises(RuntimeError, match="invalid device ordinal 1"):
        torch.ones(2, device="cuda:1")


@pytest.mark.parametrize("spelling", ["cuda", "cuda:0", torch.device("cuda"), torch.device("cuda", 0), 0])
def test_a_device_may_be_spelled_in_any_way(device: SimulatedCuda, spelling: Any) -> None:
    assert torch.ones(2, device=spelling).is_cuda
    assert torch.ones(2).to(spelling).is_cuda
    assert nn.Linear(2, 2).to(spelling).weight.is_cuda


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.cuda.synchronize(),
        lambda: torch.cuda.current_stream().synchronize(),
        lambda: torch.cuda.Stream().synchronize(),
        lambda: torch.cuda.current_stream().record_event().synchronize(),
        lambda: torch.accelerator.synchronize(),
    ],
)
def test_asking_to_wait_is_one_wait(device: SimulatedCuda, ask: Callable[[], object]) -> None:
    with watch_host_syncs("cuda") as watch:
        ask()
    assert [(site.kind, site.count) for site in watch.sites] == [("explicit_sync", 1)]


def test_a_training_loop_with_everything(device: SimulatedCuda) -> None:
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(32, 8), torch.randint(0, 3, (32,)))
    loader = DataLoader(data, batch_size=16, pin_memory=True)
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 3)).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer)
    scaler = torch.amp.GradScaler("cuda")
    with watch_host_syncs("cuda") as watch:
        for x, y in loader:
            x, y = x.cuda(non_blocking=True), y.cuda(non_blocking=True)
            with torch.autocast("cuda", dtype=torch.float16):
                loss = F.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            schedule.step()
    report = watch.report()
    assert report.unjudged == {}
    # The scaler reads once a step whether a gradient is infinite.
    assert [(site.kind, site.count) for site in report.sites] == [("scalar_read", 2)]


def test_files_are_written_and_read_as_on_cuda(device: SimulatedCuda, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    weights = {"a": torch.arange(4.0, device="cuda"), "b": torch.ones(2)}
    torch.save(weights, path)
    for location, expected in ((None, ["cuda", "cpu"]), ("cpu", ["cpu", "cpu"]), ("cuda", ["cuda", "cuda"])):
        loaded = torch.load(path, map_location=location)
        assert [value.device.type for value in loaded.values()] == expected
        assert loaded["a"].tolist() == [0, 1, 2, 3]


def test_a_file_can_be_read_without_the_device(tmp_path: Path) -> None:
    with SimulatedCuda():
        torch.save(torch.ones(2, device="cuda"), tmp_path / "x")
    assert torch.load(tmp_path / "x", map_location="cpu").tolist() == [1, 1]


def test_a_reading_of_a_printed_tensor_is_counted(device: SimulatedCuda) -> None:
    x = torch.ones(2, device="cuda")
    with watch_host_syncs("cuda") as watch:
        assert repr(x) == "tensor([1., 1.], device='cuda:0')"
    assert watch.host_syncs > 1
