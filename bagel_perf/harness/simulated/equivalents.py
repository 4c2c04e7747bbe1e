"""CUDA's operators without a kernel for the CPU, made of others: products into a wider type, attention by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from bagel_perf.harness.simulated import attention
from bagel_perf.harness.torch_inner_names import decompositions


def _product_into(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A matrix product whose factors are cast to the type of its result, as is the accumulator of CUDA's."""

    def run(left: Tensor, right: Tensor, out_dtype: torch.dtype, *, out: Tensor | None = None) -> Tensor:
        result = product(left.to(out_dtype), right.to(out_dtype))
        return result if out is None else out.copy_(result)

    return run


def _sum_into(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A matrix product into a wider type that is added to a tensor."""

    def run(
        bias: Tensor, left: Tensor, right: Tensor, out_dtype: torch.dtype, *, beta: Any = 1, alpha: Any = 1
    ) -> Tensor:
        scaled = product(left.to(out_dtype), right.to(out_dtype)) * alpha
        result: Tensor = scaled if beta == 0 else bias.to(out_dtype) * beta + scaled
        return result

    return run


def _nansum(values: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    """Complex numbers, which only CUDA's sums without nan take."""
    return torch.sum(values.masked_fill(values.isnan(), 0), dim=dim, keepdim=keepdim, dtype=dtype)


def _convolution(
    values: Tensor, weight: Tensor, padding: Any, stride: Any, dilation: Any, groups: int, *settings: bool
) -> Tensor:
    no_output_padding = [0] * len(padding)
    return torch.convolution(values, weight, None, stride, padding, dilation, False, no_output_padding, groups)


_MADE: dict[str, Callable[..., Any]] = {
    **attention.OPERATORS,
    "aten::mm.dtype": _product_into(torch.mm),
    "aten::mm.dtype_out": _product_into(torch.mm),
    "aten::bmm.dtype": _product_into(torch.bmm),
    "aten::bmm.dtype_out": _product_into(torch.bmm),
    "aten::addmm.dtype": _sum_into(torch.mm),
    "aten::baddbmm.dtype": _sum_into(torch.bmm),
    "aten::nansum": _nansum,
    "aten::_masked_scale": lambda values, mask, scale: values * mask * scale,
    "aten::cudnn_convolution": _convolution,
}


@lru_cache(maxsize=512)
def equivalent_of(operator: Any) -> Callable[..., Any] | None:
    """What runs in place of an operator that the CPU has no kernel for; None where nothing is known."""
    schema = operator._schema
    name = f"{schema.name}.{schema.overload_name}" if schema.overload_name else schema.name
    return _MADE.get(name) or decompositions().get(operator)
