"""Tensors of foreign classes: what their Python does with device tensors inside is judged, or they are refused."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._pytree import tree_map

from bagel_perf.records.sites import Kind
from bagel_perf.simulated import NotSimulated, SimulatedCuda

DISTRIBUTED: Any = torch.distributed


class Wrapper(Tensor):
    """Holds a tensor and does with it what is asked."""

    held: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Any:
        made = Tensor._make_wrapper_subclass(
            cls, inner.size(), dtype=inner.dtype, device=inner.device, requires_grad=inner.requires_grad
        )
        made.held = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        results = func(*tree_map(inner_of, args), **tree_map(inner_of, kwargs or {}))
        return tree_map(lambda value: Wrapper(value) if isinstance(value, Tensor) else value, results)


def inner_of(value: Any) -> Any:
    return value.held if isinstance(value, Wrapper) else value


class Quantized(Wrapper):
    """As torchao's: replaces functions."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn.functional.linear:
            x, weight = map(inner_of, args[:2])
            return nn.functional.linear(x, weight) * weight.max().item()
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


@pytest.fixture
def waits() -> list[Kind]:
    return []


@pytest.fixture
def device(waits: list[Kind]) -> Iterator[SimulatedCuda]:
    with SimulatedCuda(waits.append) as device:
        yield device


EXPRESSIONS: dict[str, tuple[Callable[[Any], object], list[Kind]]] = {
    "w[0].item()": (lambda w: w[0].item(), ["scalar_read"]),
    "bool((w > 0).any())": (lambda w: bool((w > 0).any()), ["scalar_read"]),
    "int(w.sum())": (lambda w: int(w.sum()), ["scalar_read"]),
    "max(w).item()": (lambda w: max(w).item(), ["scalar_read"] * 4),
    "w[w > 1]": (lambda w: w[w > 1], ["mask_gather"]),
    "w[[1, 2]]": (lambda w: w[[1, 2]], ["pageable_upload"]),
    "w.nonzero()": (lambda w: w.nonzero(), ["nonzero"]),
    "w.cpu()": (lambda w: w.cpu(), ["d2h_copy"]),
    "w.to('cpu')": (lambda w: w.to("cpu"), ["d2h_copy"]),
    "w.to('cuda')": (lambda w: w.to("cuda"), []),
    "host wrapper to the device": (lambda w: Wrapper(torch.ones(2)).cuda(), ["pageable_upload"]),
    "host wrapper read": (lambda w: Wrapper(torch.ones(2)).sum().item(), []),
    "w + plain": (lambda w: w + w.held, []),
    "w + 1.5": (lambda w: (w + 1.5, 2 * w, w > 1), []),
    "torch.allclose": (lambda w: torch.allclose(w, w), ["scalar_read"]),
    "linear of a class with functions": (
        lambda w: nn.functional.linear(torch.ones(2, 4, device="cuda"), Quantized(torch.ones(3, 4, device="cuda"))),
        ["scalar_read"],
    ),
    "two tensors read": (lambda w: TwoTensor(w.held, w.held + 1)[0].item(), ["scalar_read"] * 2),
    "two tensors copied": (lambda w: copy.deepcopy(TwoTensor(w.held, w.held.clone())), []),
}


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_what_a_wrapper_does_with_its_tensor_is_counted(
    device: SimulatedCuda, waits: list[Kind], name: str, mode: Callable[[], Any]
) -> None:
    expression, expected = EXPRESSIONS[name]
    with mode():
        wrapper = Wrapper(torch.arange(4.0, device="cuda"))
        expression(wrapper)
    assert waits == expected and not device.unjudged


def test_a_wrapper_of_a_device_tensor_is_on_the_device(device: SimulatedCuda) -> None:
    wrapper = Wrapper(torch.arange(4.0, device="cuda"))
    for each in (wrapper, wrapper + 1, wrapper.detach(), wrapper.new_zeros(2), torch.zeros_like(wrapper)):
        assert each.device.type == "cuda" and each.is_cuda and not each.is_cpu and each.get_device() == 0
    assert wrapper.cpu().device.type == "cpu" and not wrapper.cpu().is_cuda
    assert Wrapper(torch.ones(2)).device.type == "cpu"


def test_a_module_of_wrappers_moves_and_learns(device: SimulatedCuda, waits: list[Kind]) -> None:
    module = nn.Linear(4, 2)
    for name, parameter in list(module.named_parameters()):
        setattr(module, name, nn.Parameter(TwoTensor(parameter.data, parameter.data.clone())))
    module.to("cuda")
    assert waits == ["pageable_upload"] * 4 and module.weight.is_cuda
    x = torch.ones(3, 4, device="cuda")
    module(TwoTensor(x, x.clone())).sum().backward()
    assert len(waits) == 4 and module.weight.grad is not None and module.weight.grad.device.type == "cuda"


def test_jagged_and_masked_tensors_are_on_the_device_and_learn(device: SimulatedCuda, waits: list[Kind]) -> None:
    values, offsets = torch.ones(6, 3, device="cuda"), torch.tensor([0, 2, 6], device="cuda")
    layer = nn.Linear(3, 3, device="cuda")
    waits.clear()
    jagged = torch.nested.nested_tensor_from_jagged(values, offsets)
    assert jagged.device.type == "cuda" and (jagged * 2).values().is_cuda
    layer(jagged).values().sum().backward()
    assert waits == [] and layer.weight.grad is not None and layer.weight.grad.is_cuda
    masked = torch.masked.masked_tensor(values, values > 0)
    assert masked.sum().item() == 18 and waits[-1] == "scalar_read"
    assert torch.nested.nested_tensor([values, values[:2]]).is_cuda


def test_a_distributed_tensor_waits_for_the_tensor_inside(device: SimulatedCuda, waits: list[Kind]) -> None:
    torch.distributed.init_process_group("gloo", store=DISTRIBUTED.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cuda", (1,))
        whole: Any = DTensor.from_local(torch.ones(4, 2, device="cuda"), mesh, [Replicate()], run_check=False)
        assert whole.device.type == "cuda" and (whole + 1).to_local().is_cuda
        assert (whole + 1).sum().item() == 16 and bool((whole > 0).any()) and waits == ["scalar_read"] * 2
        assert whole.cpu().to_local().device.type == "cpu" and waits[2:] == ["d2h_copy"]
    finally:
        torch.distributed.destroy_process_group()


def test_a_tensor_of_a_device_tensor_is_on_the_device(device: SimulatedCuda) -> None:
    class Image(Tensor):
        pass

    make_image: Any = Image
    x = torch.ones(2, device="cuda")
    assert Tensor(x).is_cuda and Tensor(2, 3).shape == (2, 3)
    for make in (lambda: make_image(x), lambda: x.as_subclass(Image), lambda: Tensor._make_subclass(Image, x)):
        with pytest.raises(NotSimulated, match="would not be on the simulated device"):
            make()


class Sharded(nn.Parameter):
    """As vLLM's parameters: made of a device tensor, with state and methods of its own."""

    def __new__(cls, data: Tensor, **options: Any) -> Any:
        return super().__new__(cls, data=data, requires_grad=False)

    def __init__(self, data: Tensor, rank: int = 0) -> None:
        self.rank = rank

    def load(self, host: Tensor) -> None:
        self.data.copy_(host)


class ShardedTwice(Sharded):
    def __init__(self, dim: int, **options: Any) -> None:
        self.axis = dim
        super().__init__(**options)

    def __new__(cls, dim: int, **options: Any) -> Any:
        return super().__new__(cls, **options)


def test_parameters_of_derived_classes_keep_state_and_methods(device: SimulatedCuda, waits: list[Kind]) -> None:
    made = ShardedTwice(1, data=torch.zeros(2, device="cuda"), rank=3)
    moved = nn.Module()
    moved.weight = ShardedTwice(1, data=torch.zeros(2), rank=3)
    moved.to("cuda")
    waits.clear()
    for parameter in (made, moved.weight):
        assert isinstance(parameter, ShardedTwice) and isinstance(parameter, nn.Parameter) and parameter.is_cuda
        assert vars(parameter)["rank"] == 3 and vars(parameter)["axis"] == 1 and not hasattr(parameter, "other")
        parameter.load(torch.ones(2))
    assert waits == ["pageable_upload"] * 2 and device.unwrap(made).tolist() == [1.0, 1.0]
    assert type(moved.cpu().weight) is ShardedTwice


def test_a_subclass_without_a_dispatch_of_its_own_is_refused_with_a_remedy(device: SimulatedCuda) -> None:
    class Image(Tensor):
        pass

    with pytest.raises(RuntimeError, match=r"as_subclass\(torch.Tensor\)"):
        torch.ones(2).as_subclass(Image).to("cuda")
