"""Parameters as frozen dataclasses of tensors, and the sources they are built from.

A module asks a ``Source`` for each tensor by its key in the released checkpoint. The same builder code therefore makes
random weights, reads a checkpoint, and (on the meta device) lists the keys and shapes that a checkpoint must have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

BF16 = torch.bfloat16

_M = TypeVar("_M")


class Source(Protocol):
    """Where parameters come from."""

    def take(
        self, key: str, shape: tuple[int, ...], *, dtype: torch.dtype = BF16, std: float, mean: float = 0.0
    ) -> Tensor:
        """The tensor of a checkpoint key.

        ``shape`` is what the model needs, ``dtype`` what it computes in. ``mean`` and ``std`` describe the normal
        distribution that a source of random weights draws from; a checkpoint ignores them.
        """
        ...

    def take_table(self, key: str, side: int, width: int) -> Tensor:
        """A fixed table of 2-D sine and cosine positions, bf16 [side^2, width]."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """``y = x W^T + b`` in the dtype of the weight; the input is cast to it first, as autocast does."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """Scale and shift of a LayerNorm or GroupNorm."""

    weight: Tensor
    bias: Tensor


def take_linear(source: Source, key: str, num_out: int, num_in: int, *, bias: bool = True, gain: float = 1.0) -> Linear:
    """A linear layer ``key.weight`` [num_out, num_in], ``key.bias`` [num_out]; random weights keep variance gain^2."""
    weight = source.take(f"{key}.weight", (num_out, num_in), std=gain * num_in**-0.5)
    return Linear(weight=weight, bias=source.take(f"{key}.bias", (num_out,), std=0.02) if bias else None)


def take_fused_linear(
    source: Source, keys: tuple[str, ...], nums_out: tuple[int, ...], num_in: int, *, bias: bool
) -> Linear:
    """Several linear layers of one input as a single one; their outputs lie side by side in the order of ``keys``."""
    parts = [take_linear(source, key, num_out, num_in, bias=bias) for key, num_out in zip(keys, nums_out, strict=True)]
    biases = [part.bias for part in parts if part.bias is not None]
    return Linear(weight=torch.cat([part.weight for part in parts]), bias=torch.cat(biases) if bias else None)


def take_norm(source: Source, key: str, num_features: int, *, dtype: torch.dtype = BF16) -> Norm:
    """A LayerNorm or GroupNorm ``key.weight``, ``key.bias`` [num_features]."""
    weight = source.take(f"{key}.weight", (num_features,), dtype=dtype, mean=1.0, std=0.02)
    return Norm(weight=weight, bias=source.take(f"{key}.bias", (num_features,), dtype=dtype, std=0.02))


def map_tensors(module: _M, fn: Callable[[Tensor], Tensor]) -> _M:
    """A copy of a tree of dataclasses and tuples with ``fn`` applied to each tensor."""
    if isinstance(module, Tensor):
        return fn(module)  # type: ignore[return-value]
    if isinstance(module, tuple):
        return type(module)(map_tensors(item, fn) for item in module)
    if dataclasses.is_dataclass(module) and not isinstance(module, type):
        fields = {f.name: map_tensors(getattr(module, f.name), fn) for f in dataclasses.fields(module) if f.init}
        return dataclasses.replace(module, **fields)
    return module
