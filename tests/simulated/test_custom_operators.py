"""Custom operators: the Python of their kernels is looked into, of others it is said that nobody can."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import Library, custom_op
from torch.utils._python_dispatch import TorchDispatchMode

from bagel_perf.records.sites import Kind
from bagel_perf.simulated import NotSimulated, SimulatedCuda

_numbers = itertools.count()


@pytest.fixture
def waits() -> list[Kind]:
    return []


@pytest.fixture
def device(waits: list[Kind]) -> Iterator[SimulatedCuda]:
    with SimulatedCuda(waits.append) as device:
        yield device


@pytest.fixture
def library() -> Iterator[Library]:
    with torch.library._scoped_library(f"bagel_perf_test_{next(_numbers)}", "DEF") as library:
        yield library


def operator_of(library: Library, schema: str, **kernels: Callable[..., Any]) -> Any:
    library.define(schema)
    for key, kernel in kernels.items():
        library.impl(schema.partition("(")[0], kernel, key)
    return getattr(getattr(torch.ops, library.ns), schema.partition("(")[0].partition(".")[0])


def reading(x: Tensor) -> Tensor:
    """Waits twice."""
    return x * x.mean().item() + x[x > 0].sum()


def name_of_new() -> str:
    return f"bagel_perf_custom::op{next(_numbers)}"


MODES = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("key", ["CUDA", "CompositeExplicitAutograd", "CompositeImplicitAutograd"])
def test_a_python_kernel_is_looked_into(
    device: SimulatedCuda, waits: list[Kind], library: Library, key: str, mode: str
) -> None:
    operator = operator_of(library, "mean(Tensor x) -> Tensor", **{key: reading})
    x = torch.ones(4, device="cuda")
    with MODES[mode]():
        for call in (operator, operator.default):
            waits.clear()
            assert call(x).device.type == "cuda"
            assert waits == ["scalar_read", "mask_gather"]
    assert not device.unjudged


@pytest.mark.parametrize("mode", MODES)
def test_a_custom_op_is_looked_into_also_one_defined_before(waits: list[Kind], mode: str) -> None:
    operator = custom_op(name_of_new(), reading, mutates_args=())
    with SimulatedCuda(waits.append) as device, MODES[mode]():
        result = operator(torch.ones(4, device="cuda"))
        assert waits == ["scalar_read", "mask_gather"] and not device.unjudged
        assert device.unwrap(result).tolist() == [5.0] * 4


def test_of_two_kernels_the_one_for_cuda_runs(device: SimulatedCuda, waits: list[Kind]) -> None:
    operator = custom_op(name_of_new(), lambda_of("host"), mutates_args=(), device_types="cpu")
    operator.register_kernel("cuda", reading)
    operator(torch.ones(4, device="cuda"))
    assert waits == ["scalar_read", "mask_gather"]
    waits.clear()
    assert operator(torch.ones(2)).tolist() == [3.0, 3.0] and waits == []


def lambda_of(kind: str) -> Callable[[Tensor], Tensor]:
    def on_host(x: Tensor) -> Tensor:
        assert x.device.type == "cpu", kind
        return x * 3

    return on_host


def test_a_kernel_for_the_host_alone_is_missing_as_on_cuda(device: SimulatedCuda, library: Library) -> None:
    operator = operator_of(library, "host(Tensor x) -> Tensor", CPU=lambda_of("host"))
    with pytest.raises(NotImplementedError, match="CUDA"):
        operator(torch.ones(2, device="cuda"))
    assert operator(torch.ones(2)).tolist() == [3.0, 3.0]


def test_a_kernel_in_c_is_run_and_named(device: SimulatedCuda, waits: list[Kind]) -> None:
    weight = torch.ones(2, 8, device="cuda")
    packed = torch.ops.quantized.embedding_bag_byte_prepack(weight)
    assert packed.device.type == "cuda" and waits == []
    assert device.unjudged == {"quantized.embedding_bag_byte_prepack.default": 1}


def test_gradients_of_a_custom_op_are_made_on_the_device(device: SimulatedCuda, waits: list[Kind]) -> None:
    operator = custom_op(name_of_new(), reading, mutates_args=())
    seen: list[str] = []

    def keep(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.output = output

    def back(ctx: Any, gradient: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        seen.extend(each.device.type for each in (x, ctx.output, gradient))
        return gradient * x.sum().item()

    operator.register_autograd(back, setup_context=keep)
    x = torch.ones(4, device="cuda", requires_grad=True)
    operator(x).sum().backward()
    assert seen == ["cuda"] * 3 and x.grad is not None and x.grad.device.type == "cuda"
    assert waits == ["scalar_read", "mask_gather", "scalar_read"] and not device.unjudged
    assert device.unwrap(x.grad).tolist() == [4.0] * 4


def test_an_operator_that_writes_into_its_arguments_does_so_on_the_device(
    device: SimulatedCuda, waits: list[Kind]
) -> None:
    def fill(x: Tensor, y: list[Tensor]) -> None:
        for each in y:
            each.copy_(x)
        x[0] = 7.0

    operator = custom_op(name_of_new(), fill, mutates_args={"x", "y"})
    x, y = torch.ones(2, device="cuda"), [torch.zeros(2, device="cuda") for _ in range(2)]
    version = x._version
    operator(x, y)
    assert x._version > version and [device.unwrap(each).tolist() for each in (x, *y)] == [
        [7.0, 1.0],
        [1.0, 1.0],
        [1.0, 1.0],
    ]
    assert waits == ["integer_index_write"] and not device.unjudged


def test_an_operator_may_make_tensors_of_a_device_and_copy_to_the_host(
    device: SimulatedCuda, waits: list[Kind], library: Library
) -> None:
    make = custom_op(name_of_new(), _make, mutates_args=())
    assert make(3, torch.device("cuda")).device.type == "cuda" and make(3, torch.device("cpu")).device.type == "cpu"
    down = operator_of(library, "down(Tensor x) -> Tensor", CUDA=lambda x: x.cpu())
    up = operator_of(library, "up(Tensor x) -> Tensor", CPU=lambda x: x.to("cuda"))
    assert waits == []
    assert down(torch.ones(2, device="cuda")).device.type == "cpu"
    assert up(torch.ones(2)).device.type == "cuda"
    assert waits == ["d2h_copy", "pageable_upload"] and not device.unjudged


def _make(size: int, device: torch.device) -> Tensor:
    return torch.zeros(size, device=device)


def test_overloads_are_told_apart(device: SimulatedCuda, waits: list[Kind], library: Library) -> None:
    operator_of(library, "scale(Tensor x, Tensor by) -> Tensor", CUDA=lambda x, by: x * by)
    operator = operator_of(
        library, "scale.number(Tensor x, float by) -> Tensor", CUDA=lambda x, by: x * x.max().item() * by
    )
    x = torch.ones(2, device="cuda")
    operator(x, x)
    assert waits == []
    operator(x, 2.0)
    assert waits == ["scalar_read"] and not device.unjudged


def test_autocast_of_an_operator_is_that_of_cuda(device: SimulatedCuda) -> None:
    operator = custom_op(name_of_new(), lambda_typed, mutates_args=())
    operator.register_autocast("cuda", torch.bfloat16)
    x = torch.ones(2, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        assert operator(x).dtype == torch.bfloat16
    assert operator(x).dtype == torch.float32


def lambda_typed(x: Tensor) -> Tensor:
    return x.clone()


def test_operators_inside_others_and_inside_backward_passes_are_looked_into(
    device: SimulatedCuda, waits: list[Kind]
) -> None:
    inner = custom_op(name_of_new(), reading, mutates_args=())
    outer = custom_op(name_of_new(), _calling(inner), mutates_args=())

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Any:
            return outer(x)

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Any:
            return outer(gradients[0])

    x = torch.ones(4, device="cuda", requires_grad=True)
    Doubled.apply(x).sum().backward()  # type: ignore[no-untyped-call]
    assert waits == ["scalar_read", "mask_gather"] * 2 and not device.unjudged
    assert x.grad is not None and x.grad.device.type == "cuda"


def _calling(operator: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def outer(x: Tensor) -> Tensor:
        return operator(x) * 2

    return outer


def test_an_operator_inside_a_traced_function_is_looked_into(device: SimulatedCuda, waits: list[Kind]) -> None:
    operator = custom_op(name_of_new(), reading, mutates_args=())
    device.__exit__(None, None, None)
    traced = torch.jit.trace(lambda x: operator(x) + 1, torch.ones(4))
    device.__enter__()
    assert traced(torch.ones(4, device="cuda")).device.type == "cuda"
    assert waits == ["scalar_read", "mask_gather"] and not device.unjudged


def test_a_programs_own_dispatch_mode_sees_the_operator(device: SimulatedCuda, waits: list[Kind]) -> None:
    operator = custom_op(name_of_new(), reading, mutates_args=())
    names = []

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            names.append(str(func))
            return func(*args, **(kwargs or {}))

    x = torch.ones(4, device="cuda")
    with Names():  # type: ignore[no-untyped-call]
        operator(x)
    assert waits == ["scalar_read", "mask_gather"] and any("bagel_perf_custom" in name for name in names)


def test_vmap_of_an_operator_runs_its_rule(device: SimulatedCuda) -> None:
    operator = custom_op(name_of_new(), lambda_typed, mutates_args=())
    operator.register_vmap(lambda info, in_dims, x: (operator(x), in_dims[0]))
    x = torch.ones(3, 2, device="cuda")
    assert torch.vmap(operator)(x).device.type == "cuda"
    with pytest.raises(NotSimulated, match="register_vmap"):
        torch.vmap(custom_op(name_of_new(), reading, mutates_args=()))(x)
