"""Sparse tensors in functions that are known not to wait for others: of few it was measured, the rest are named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from bagel_perf.harness.simulated.calls import Args, Func, Handler, Kwargs, is_known_of_strided, name_of
from bagel_perf.harness.simulated.tensor import hidden, is_simulated, leaves

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice

_FACTS = """
dim ndimension size numel nelement is_contiguous is_floating_point is_complex element_size __len__ __hash__ detach
requires_grad_
"""
_QUIET = frozenset(_FACTS.split())
_PRODUCTS = ("matmul", "__matmul__", "mm")


def holds_sparse(values: Iterable[Any]) -> bool:
    """Whether a tensor of the device that is not strided is among ``values``, or in a sequence among them."""
    with hidden():
        return any(is_simulated(value) and value.layout is not torch.strided for value in leaves(values))


def judged(handler: Handler) -> Handler:
    """The handler, naming what it would take for a call that does not wait; others look into the call anyway."""

    def run(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        name = name_of(func)
        is_measured = name in _QUIET or (name in _PRODUCTS and not holds_sparse(args[1:]))
        if is_known_of_strided(name) and not is_measured:
            device.cannot_judge(f"{name} of a sparse tensor")
        return handler(device, func, types, args, kwargs)

    return run
