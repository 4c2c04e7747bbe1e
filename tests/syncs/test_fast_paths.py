"""A mode that only listens leaves torch's modules on their fused paths; any other mode takes them off, as ever."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bagel_perf.simulated import SimulatedDevice
from bagel_perf.syncs.calls import kind_of_wait, logging_calls

Context = Callable[[], AbstractContextManager[object]]

ENCODER = "_transformer_encoder_layer_fwd"
ATTENTION = "_native_multi_head_attention"


class Other(TorchFunctionMode):
    """Somebody else's mode."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Odd(Tensor):
    """A tensor that overrides torch functions."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


def as_odd(x: Tensor) -> Tensor:
    odd: Tensor = x.as_subclass(Odd)
    return odd


@contextmanager
def both() -> Iterator[None]:
    with logging_calls(), Other():
        yield


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the fused functions that ran."""
    names: list[str] = []

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            names.append(name)
            return function(*args, **kwargs)

        return run

    for name in (ENCODER, ATTENTION):
        monkeypatch.setattr(torch, name, noting(name, getattr(torch, name)))
    return names


def encode(x: Tensor) -> Tensor:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    result: Tensor = layer(x)
    return result


def attend(x: Tensor) -> Tensor:
    module = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    result: Tensor = module(x, x, x, need_weights=False)[0]
    return result


@pytest.mark.parametrize(("module", "name"), [(encode, ENCODER), (attend, ATTENTION)])
@pytest.mark.parametrize(
    ("context", "is_fused"), [(nullcontext, True), (logging_calls, True), (Other, False), (both, False)]
)
@torch.no_grad()
def test_modules_take_the_path_that_they_take_when_nobody_listens(
    fused: list[str], module: Callable[[Tensor], Tensor], name: str, context: Context, is_fused: bool
) -> None:
    with context():
        module(torch.ones(1, 3, 8))
    assert fused == [name] * is_fused


@torch.no_grad()
def test_tensors_that_override_functions_are_not_ignored(fused: list[str]) -> None:
    with logging_calls():
        encode(as_odd(torch.ones(1, 3, 8)))
    assert fused == []


@torch.no_grad()
def test_the_simulated_device_keeps_fused_paths_too(fused: list[str]) -> None:
    with SimulatedDevice() as device:
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, device=device.device).eval()
        layer(torch.ones(1, 3, 8, device=device.device))
    assert fused == [ENCODER]


def test_the_question_is_answered_as_torch_would_without_our_mode() -> None:
    plain, parameter, odd = torch.ones(2), nn.Parameter(torch.ones(2)), as_odd(torch.ones(2))
    asked: tuple[tuple[object, ...], ...] = ((), (plain,), (plain, parameter, None, 3), (plain, odd), (odd,))
    expected = [torch.overrides.has_torch_function(each) for each in asked]
    original = torch.overrides.has_torch_function
    with logging_calls():
        assert torch.overrides.has_torch_function is not original
        assert [torch.overrides.has_torch_function(each) for each in asked] == expected
        with Other():
            assert all(torch.overrides.has_torch_function(each) for each in asked[1:])
    assert torch.overrides.has_torch_function is original


def test_two_logs_may_end_in_another_order_than_they_began() -> None:
    original = torch.overrides.has_torch_function
    first, second = logging_calls(), logging_calls()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not torch.overrides.has_torch_function((torch.ones(2),))
    second.__exit__(None, None, None)
    assert torch.overrides.has_torch_function is original
    assert torch.overrides._get_current_function_mode_stack() == []


@pytest.mark.parametrize(("frames", "is_logging"), [({}, True), ({"total": 1}, False)])
def test_no_log_is_kept_where_something_was_compiled(
    monkeypatch: pytest.MonkeyPatch, frames: dict[str, int], is_logging: bool
) -> None:
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", SimpleNamespace(counters={"frames": frames}))
    with logging_calls():
        assert bool(torch.overrides._get_current_function_mode_stack()) is is_logging


def test_the_kind_of_a_wait_is_that_of_the_function_under_way_on_this_thread() -> None:
    kinds: list[str] = []

    class Waiting(Odd):
        """Waits in each function: its own are called inside the log's."""

        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kinds.append(kind_of_wait())
            return super().__torch_function__(func, types, args, kwargs or {})

    x: Tensor = torch.ones(2, 2).as_subclass(Waiting)
    with logging_calls():
        x.nonzero()
        x.sum()
    x.nonzero()
    assert kinds == ["nonzero", "unknown", "unknown"]
