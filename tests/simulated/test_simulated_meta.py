"""Tensors on "meta" have no values: nothing is copied from or to them, and models are built there as on CUDA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bagel_perf.records.sites import Kind
from bagel_perf.simulated import SimulatedCuda

META = torch.device("meta")

BECOMES_META: dict[str, Callable[[Tensor], Tensor]] = {
    "to": lambda t: t.to("meta"),
    "to a device": lambda t: t.to(device=META, dtype=torch.float64),
    "to like a meta tensor": lambda t: t.to(torch.empty(1, device="meta")),
    "to by name": lambda t: to_like(t, tensor=torch.empty(1, device="meta")),
    "type_as": lambda t: t.type_as(torch.empty(1, device="meta")),
    "empty_like": lambda t: torch.empty_like(t, device="meta"),
    "zeros_like": lambda t: torch.zeros_like(t, device=META),
    "randn_like": lambda t: torch.randn_like(t, device="meta"),
    "new_empty": lambda t: t.new_empty(3, device="meta"),
    "new_zeros": lambda t: t.new_zeros((3,), device=META),
    "new_tensor": lambda t: t.new_tensor([1.0], device="meta"),
    "tensor": lambda t: torch.tensor([1.0], device="meta"),
    "as_tensor": lambda t: torch.as_tensor(t, device="meta"),
    "asarray": lambda t: torch.asarray(t, device="meta"),
    "parameter": lambda t: nn.Parameter(t).to("meta"),
    "module": lambda t: linear_on(t).to("meta").weight,
    "module by to_empty": lambda t: linear_on(t).to_empty(device="meta").weight,
    "copy_": lambda t: torch.empty(3, device="meta").copy_(t),
    "foreach copy": lambda t: foreach_copied(t),
    "context": lambda t: in_context(t),
}


def to_like(source: Any, **other: Tensor) -> Tensor:
    made: Tensor = source.to(**other)
    return made


def linear_on(like: Tensor) -> nn.Linear:
    return nn.Linear(3, 3, device=like.device)


def foreach_copied(source: Tensor) -> Tensor:
    target = torch.empty(3, device="meta")
    torch._foreach_copy_([target], [source])
    return target


def in_context(like: Tensor) -> Tensor:
    with META:
        return torch.zeros(like.shape)


@pytest.fixture
def waits() -> list[Kind]:
    return []


@pytest.fixture
def device(waits: list[Kind]) -> Iterator[SimulatedCuda]:
    with SimulatedCuda(waits.append) as device:
        yield device


@pytest.mark.parametrize("start", ["cpu", "cuda", "meta"])
@pytest.mark.parametrize("name", BECOMES_META)
def test_nothing_is_copied_to_meta(name: str, start: str, waits: list[Kind], device: SimulatedCuda) -> None:
    tensor = torch.ones(3, device=start)
    waits.clear()
    made = BECOMES_META[name](tensor)
    assert (made.device, made.is_cuda, made.is_meta, waits) == (META, False, True, [])
    assert (made + 1).device == META


LEAVES_META: dict[str, Callable[[Tensor], Any]] = {
    "to cuda": lambda t: t.to("cuda"),
    "to cuda without blocking": lambda t: t.to("cuda", non_blocking=True),
    "to the host": lambda t: t.to("cpu"),
    "cpu": lambda t: t.cpu(),
    "cuda": lambda t: t.cuda(),
    "to a device tensor": lambda t: t.to(torch.ones(1, device="cuda")),
    "copy into a device tensor": lambda t: torch.ones(3, device="cuda").copy_(t),
    "module": lambda t: nn.Linear(2, 2, device="meta").to("cuda"),
}


@pytest.mark.parametrize("name", LEAVES_META)
def test_meta_has_no_values_to_copy(name: str, waits: list[Kind], device: SimulatedCuda) -> None:
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor; no data!"):
        LEAVES_META[name](torch.ones(3, device="meta"))
    assert not waits


def test_a_meta_tensor_keeps_its_place_through_conversions(device: SimulatedCuda) -> None:
    tensor = torch.ones(3, device="meta")
    for made in (
        tensor.to(torch.float64),
        tensor.half(),
        tensor.to("meta"),
        torch.zeros_like(tensor),
        tensor.new_ones(2),
    ):
        assert made.device == META
    with torch.device("cuda"):
        assert torch.ones_like(tensor).device == META and (tensor * 2).device == META


def test_a_model_built_on_meta_gets_memory_and_weights(waits: list[Kind], device: SimulatedCuda) -> None:
    source = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    model.to_empty(device="cuda")
    assert not waits and all(isinstance(weight, nn.Parameter) and weight.is_cuda for weight in model.parameters())
    model.load_state_dict(source.state_dict())
    assert waits == ["pageable_upload"] * 4
    x = torch.rand(2, 3)
    assert torch.equal(device.unwrap(model(device.wrap(x))), source(x))


def test_weights_are_assigned_to_a_model_on_meta(waits: list[Kind], device: SimulatedCuda) -> None:
    with torch.device("meta"):
        model = nn.Linear(3, 4)
    weights = {"weight": torch.ones(4, 3, device="cuda"), "bias": torch.ones(4, device="cuda")}
    model.load_state_dict(weights, assign=True)
    assert model.weight.is_cuda and isinstance(model.weight, nn.Parameter) and not waits


def test_a_model_goes_back_and_forth_between_meta_and_the_device(waits: list[Kind], device: SimulatedCuda) -> None:
    model = nn.Linear(3, 4).to("cuda")
    waits.clear()
    model.to("meta")
    assert model.weight.is_meta and type(model.weight) is nn.Parameter
    model.to_empty(device="cuda")
    model.weight.data = torch.zeros(4, 3, device="cuda")
    assert model.weight.is_cuda and not waits
