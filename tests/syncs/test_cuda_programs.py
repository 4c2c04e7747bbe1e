"""Spellings, files, training loops: what programs that ask for "cuda" do, on the simulated device."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, TensorDataset

from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import watch_host_syncs


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


def test_what_torch_saved_or_showed_the_storage_of_can_be_copied(device: SimulatedCuda) -> None:
    x = torch.arange(3.0, device="cuda")
    pair = x, x[1:]
    torch.save(x, io.BytesIO())
    x.untyped_storage()
    copied, part = copy.deepcopy(pair)
    assert copied.is_cuda and copied.untyped_storage().device.type == "cuda"
    copied += 1
    assert (part.tolist(), x.tolist()) == ([2.0, 3.0], [0.0, 1.0, 2.0])  # views stay views, and of the copy


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda x: x.as_subclass(type("Own", (torch.Tensor,), {})), "as_subclass"),
        (lambda x: x.__cuda_array_interface__, "__cuda_array_interface__"),
        (lambda x: torch.nested.nested_tensor([[1.0], [2.0]], device="cuda"), "nested_tensor"),
    ],
)
def test_what_is_not_simulated_is_refused_by_name(
    device: SimulatedCuda, ask: Callable[[torch.Tensor], object], name: str
) -> None:
    with pytest.raises(RuntimeError, match=rf"{name}.* is not simulated"):
        ask(torch.ones(2, device="cuda"))


def test_a_tensor_may_be_asked_for_as_a_tensor(device: SimulatedCuda) -> None:
    x = torch.ones(2, device="cuda")
    assert x.as_subclass(torch.Tensor) is x
    assert not torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]).is_cuda


def test_the_sync_debug_mode_of_a_program_warns_and_stops_it(device: SimulatedCuda) -> None:
    x = torch.ones(2, device="cuda")
    torch.cuda.set_sync_debug_mode("warn")
    assert torch.cuda.get_sync_debug_mode() == 1
    with pytest.warns(UserWarning, match="synchronizing CUDA operation"), watch_host_syncs("cuda") as watch:
        x.sum().item()
    torch.cuda.set_sync_debug_mode(2)
    with watch_host_syncs("cuda") as stopped:
        torch.cuda.synchronize()  # torch does not look at these
        with pytest.raises(RuntimeError, match="synchronizing CUDA operation"):
            x.sum().item()
    assert (watch.host_syncs, stopped.host_syncs) == (1, 1)
    with pytest.raises(RuntimeError, match="invalid value of debug_mode"):
        torch.cuda.set_sync_debug_mode("loud")


@pytest.mark.parametrize("activities", [None, list(ProfilerActivity.__members__.values())[:2]])
def test_a_profiler_of_the_programs_own_records_the_cpu(
    device: SimulatedCuda, activities: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with profile(activities=activities) as profiled:
        torch.ones(2, device="cuda").sum()
    assert any(event.key == "aten::sum" for event in profiled.key_averages())
    with torch.autograd.profiler.profile(use_device="cuda"):
        torch.ones(2, device="cuda").sum()
    assert "Failed to record" not in capfd.readouterr().err
    assert sum(device.notes.values()) == (1 if activities is None else 2)
