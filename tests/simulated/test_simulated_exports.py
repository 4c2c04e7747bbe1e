"""Exports, fake tensors and tracers: they work on device tensors, or are refused; the process lives on."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from bagel_perf.records.sites import Kind
from bagel_perf.simulated import NotSimulated, SimulatedCuda


@pytest.fixture
def waits() -> list[Kind]:
    return []


@pytest.fixture
def device(waits: list[Kind]) -> Iterator[SimulatedCuda]:
    with SimulatedCuda(waits.append) as device:
        yield device


def test_a_module_on_the_device_is_exported_and_runs_there(device: SimulatedCuda, waits: list[Kind]) -> None:
    module, x = nn.Linear(4, 4).to("cuda"), torch.ones(2, 4, device="cuda")
    waits.clear()
    exported = torch.export.export(module, (x,)).module()
    result = exported(x)
    assert result.is_cuda and torch.allclose(device.unwrap(result), device.unwrap(module(x)))
    assert waits == []


def test_fake_tensors_are_made_on_the_device_and_their_gradients_refused(device: SimulatedCuda) -> None:
    with FakeTensorMode():
        x = torch.ones(2, 4, device="cuda", requires_grad=True)
        total = nn.Linear(4, 4, device="cuda")(x).sum()
        assert isinstance(total, FakeTensor) and total.device.type == "cuda"
        with pytest.raises(NotSimulated, match="fake tensors"):
            total.backward()


@pytest.mark.parametrize("mode", ["real", "fake"])
def test_a_traced_graph_runs_on_the_device(device: SimulatedCuda, mode: Any) -> None:
    x = torch.ones(3, device="cuda")
    graph = make_fx(lambda x: (x * 2).sum() + torch.zeros((), device=x.device), tracing_mode=mode)(x)
    assert graph(x).is_cuda and device.unwrap(graph(x)).item() == 6


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x)
        if bool(y.sum() > 1e9):
            y = y * 2
        return y[y > 0] + torch.zeros(1, device=x.device)


def test_a_scripted_module_keeps_its_code_and_is_watched(device: SimulatedCuda, waits: list[Kind]) -> None:
    scripted = torch.jit.script(Branching()).to("cuda")
    assert waits == ["pageable_upload"] * 2 and "def forward" in scripted.code and scripted.graph is not None
    waits.clear()
    assert scripted(torch.ones(2, 4, device="cuda")).is_cuda
    assert waits == ["scalar_read", "mask_gather"] and not device.unjudged
    with pytest.raises(RuntimeError, match="same device"):
        torch.jit.script(Branching())(torch.ones(2, 4, device="cuda"))


def test_a_scripted_module_is_saved_and_loaded_by_copies(device: SimulatedCuda, waits: list[Kind]) -> None:
    scripted, file = torch.jit.script(Branching().to("cuda")), io.BytesIO()
    waits.clear()
    torch.jit.save(scripted, file)
    file.seek(0)
    loaded = torch.jit.load(file, map_location="cuda")
    assert waits == ["d2h_copy"] * 2 + ["pageable_upload"] * 2 and loaded.layer.weight.is_cuda


def test_copies_across_devices_inside_a_script_are_named(device: SimulatedCuda, waits: list[Kind]) -> None:
    down = torch.jit.script(to_host)
    down(torch.ones(2, device="cuda"))
    assert waits == [] and device.unjudged == {"aten::cpu in torch.jit's to_host": 1}


def test_device_tensors_in_dictionaries_are_seen_in_a_script(device: SimulatedCuda, waits: list[Kind]) -> None:
    assert torch.jit.script(read_of)({"x": torch.ones(2, device="cuda")}) == 2 and waits == ["scalar_read"]
    assert torch.jit.script(where)(torch.ones(2, device="cuda")) == 0
    assert device.unjudged == {"prim::is_cuda in torch.jit's where": 1}


def read_of(values: dict[str, torch.Tensor]) -> float:
    return float(values["x"].sum().item())


def where(x: torch.Tensor) -> int:
    return 1 if x.is_cuda else 0


def to_host(x: torch.Tensor) -> torch.Tensor:
    return x.cpu() + 1


def test_scripts_that_torch_itself_needs_are_still_made(device: SimulatedCuda) -> None:
    x = torch.ones(3, device="cuda")
    assert torch.func.jvp(torch.sin, (x,), (x,))[1].is_cuda


TRANSFORMS: dict[str, Any] = {
    "jvp": lambda x: torch.func.jvp(torch.sin, (x,), (x,))[1],
    "jacfwd": lambda x: torch.func.jacfwd(torch.sin)(x),
    "jacrev": lambda x: torch.func.jacrev(torch.sin)(x),
    "hessian": lambda x: torch.func.hessian(lambda x: x.sin().sum())(x),
    "linearize": lambda x: torch.func.linearize(torch.sin, x)[1](x),
    "vmap of grad": lambda x: torch.vmap(torch.func.grad(lambda x: x.sin().sum()))(x[:, None]),
    "functionalize": lambda x: torch.func.functionalize(lambda x: x.add_(1))(x.clone()),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_gives_device_tensors_with_the_values_of_the_cpu(
    device: SimulatedCuda, waits: list[Kind], name: str
) -> None:
    host = torch.tensor([1.0, 2.0, 3.0])
    result = TRANSFORMS[name](device.wrap(host.clone()))
    assert result.is_cuda and torch.allclose(device.unwrap(result), TRANSFORMS[name](host)) and waits == []


def test_what_needs_dynamo_runs_without_or_is_refused(device: SimulatedCuda) -> None:
    module, x = nn.Linear(4, 4, device="cuda"), torch.ones(2, 4, device="cuda")
    assert torch.export.export(module, (x,), strict=True).module()(x).is_cuda
    assert any("strict=False" in note for note in device.notes)
    dynamo: Any = torch._dynamo
    assert dynamo.optimize("inductor")(module)(x).is_cuda
    for refused in (dynamo.explain, torch.export.draft_export):
        with pytest.raises(NotSimulated):
            refused(module, (x,))
