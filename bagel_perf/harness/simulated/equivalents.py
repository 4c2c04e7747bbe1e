"""CUDA's operators without a kernel for the CPU, made of others: matrix products into a wider type, attention by name.

Written from the definitions: softmax(q k^T * scale + bias) v, in float32 and cast back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from bagel_perf.harness.simulated.refusals import NotSimulated
from bagel_perf.harness.torch_inner_names import decompositions

# Shapes: B batch, H heads, L queries, S keys, E elements of a head.


def _softmax(
    query_BHLE: Tensor, key_BHSE: Tensor, bias: Tensor | None, is_causal: bool, factor: float
) -> tuple[Tensor, Tensor]:
    """Weights [B, H, L, S] and the log of the softmax's sums [B, H, L], both in float32."""
    scores_BHLS = query_BHLE.float() @ key_BHSE.float().transpose(-2, -1) * factor
    if bias is not None:
        scores_BHLS = scores_BHLS + bias.float()
    if is_causal:
        allowed_LS = torch.ones(scores_BHLS.shape[-2:], dtype=torch.bool).tril()
        scores_BHLS = scores_BHLS.masked_fill(~allowed_LS, -math.inf)
    sums_BHL = scores_BHLS.logsumexp(-1)
    return (scores_BHLS - sums_BHL.unsqueeze(-1)).exp().nan_to_num(0.0), sums_BHL


def _factor(query: Tensor, scale: float | None) -> float:
    return 1 / math.sqrt(query.shape[-1]) if scale is None else scale


def _attention(
    query_BHLE: Tensor, key_BHSE: Tensor, value_BHSE: Tensor, bias: Tensor | None, is_causal: bool, scale: float | None
) -> tuple[Tensor, Tensor]:
    """Output [B, H, L, E] in the type of the query, and the log of the softmax's sums [B, H, L] in float32."""
    weights_BHLS, sums_BHL = _softmax(query_BHLE, key_BHSE, bias, is_causal, _factor(query_BHLE, scale))
    return (weights_BHLS @ value_BHSE.float()).to(query_BHLE.dtype), sums_BHL


def _no_dropout(name: str, dropout_p: float) -> None:
    if dropout_p:
        raise NotSimulated(f"aten.{name} with dropout", "its random numbers are CUDA's own")


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.int64)


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Any, ...]:
    _no_dropout("_scaled_dot_product_flash_attention", dropout_p)
    output, sums = _attention(query, key, value, None, is_causal, scale)
    return output, sums, None, None, query.shape[-2], key.shape[-2], _empty(2), _empty(), query.new_empty(0)


def _efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Any, ...]:
    _no_dropout("_scaled_dot_product_efficient_attention", dropout_p)
    output, sums = _attention(query, key, value, attn_bias, is_causal, scale)
    return output, sums if compute_log_sumexp else sums[..., :0], _empty(), _empty()


def _cudnn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Any, ...]:
    _no_dropout("_scaled_dot_product_cudnn_attention", dropout_p)
    output, sums = _attention(query, key, value, attn_bias, is_causal, scale)
    kept = sums.unsqueeze(-1) if compute_log_sumexp else sums.new_empty(0)
    return output, kept, None, None, query.shape[-2], key.shape[-2], _empty(), _empty(), query.new_empty(0)


def _gradients(
    grad_BHLE: Tensor, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, is_causal: bool, scale: Any
) -> tuple[Tensor, ...]:
    """Of query, key, value and, where there is one, of the bias. Runs below autograd, so by hand."""
    factor = _factor(query, scale)
    weights_BHLS, _ = _softmax(query, key, bias, is_causal, factor)
    of_weights = grad_BHLE.float() @ value.float().transpose(-2, -1)
    of_scores = weights_BHLS * (of_weights - (of_weights * weights_BHLS).sum(-1, keepdim=True))
    of_query = (of_scores @ key.float() * factor).to(query.dtype)
    of_key = (of_scores.transpose(-2, -1) @ query.float() * factor).to(key.dtype)
    of_value = (weights_BHLS.transpose(-2, -1) @ grad_BHLE.float()).to(value.dtype)
    of_bias = () if bias is None else (of_scores.sum_to_size(bias.shape).to(bias.dtype),)
    return (of_query, of_key, of_value, *of_bias)


def _flash_backward(
    grad_out: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any, scale: float | None = None
) -> tuple[Tensor, ...]:
    """Rest: out, logsumexp, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, and random states."""
    _no_dropout("_scaled_dot_product_flash_attention_backward", rest[6])
    return _gradients(grad_out, query, key, value, None, rest[7], scale)


def _efficient_backward(
    grad_out: Tensor, query: Tensor, key: Tensor, value: Tensor, bias: Any, *rest: Any, scale: float | None = None
) -> tuple[Tensor | None, ...]:
    """Rest: out, logsumexp, two random states, dropout_p, which gradients are wanted, is_causal."""
    _no_dropout("_scaled_dot_product_efficient_attention_backward", rest[4])
    is_causal = bool(rest[6]) if len(rest) > 6 else False
    gradients = _gradients(grad_out, query, key, value, bias, is_causal, scale)
    return (*gradients, *(None,) * (4 - len(gradients)))


def _cudnn_backward(
    grad_out: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any, scale: float | None = None
) -> tuple[Tensor, ...]:
    """Rest: out, logsumexp, two random states, attn_bias, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal."""
    _no_dropout("_scaled_dot_product_cudnn_attention_backward", rest[9])
    return _gradients(grad_out, query, key, value, rest[4], rest[10], scale)[:3]


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


def _flash_of_sequences(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    return_debug_mask: bool,
    *,
    scale: float | None = None,
    **windows: Any,
) -> tuple[Any, ...]:
    """Heads come behind positions here; with ``cum_seq_q`` sequences lie behind each other in one dimension."""
    _no_dropout("_flash_attention_forward", dropout_p)
    if any(value is not None for value in windows.values()):
        raise NotSimulated("aten._flash_attention_forward with a window", "run it without one")
    if cum_seq_q is None or cum_seq_k is None:
        output, sums = _attention_of(query, key, value, is_causal, scale)
    else:
        bounds = zip(*(cum_seq[1:].tolist() for cum_seq in (cum_seq_q, cum_seq_k)), strict=True)
        output, sums, start_q, start_k = torch.empty_like(query), query.new_empty(0), 0, 0
        kept = []
        for end_q, end_k in bounds:
            part = (query[start_q:end_q], key[start_k:end_k], value[start_k:end_k])
            output[start_q:end_q], of_part = _attention_of(*part, is_causal, scale)
            kept.append(of_part)
            start_q, start_k = end_q, end_k
        sums = torch.cat(kept, -1)
    return output, sums, _empty(2), _empty(), query.new_empty(0)


def _attention_of(query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scale: float | None) -> tuple[Any, Any]:
    query, key, value = (one.transpose(-3, -2) for one in (query, key, value))
    output, sums = _attention(query, key, value, None, is_causal, scale)
    return output.transpose(-3, -2).contiguous(), sums


def _convolution(
    values: Tensor, weight: Tensor, padding: Any, stride: Any, dilation: Any, groups: int, *settings: bool
) -> Tensor:
    no_output_padding = [0] * len(padding)
    return torch.convolution(values, weight, None, stride, padding, dilation, False, no_output_padding, groups)


_MADE: dict[str, Callable[..., Any]] = {
    "aten::mm.dtype": _product_into(torch.mm),
    "aten::mm.dtype_out": _product_into(torch.mm),
    "aten::bmm.dtype": _product_into(torch.bmm),
    "aten::bmm.dtype_out": _product_into(torch.bmm),
    "aten::addmm.dtype": _sum_into(torch.mm),
    "aten::baddbmm.dtype": _sum_into(torch.bmm),
    "aten::nansum": _nansum,
    "aten::_masked_scale": lambda values, mask, scale: values * mask * scale,
    "aten::cudnn_convolution": _convolution,
    "aten::_flash_attention_forward": _flash_of_sequences,
    "aten::_scaled_dot_product_flash_attention": _flash,
    "aten::_scaled_dot_product_flash_attention_backward": _flash_backward,
    "aten::_scaled_dot_product_efficient_attention": _efficient,
    "aten::_scaled_dot_product_efficient_attention_backward": _efficient_backward,
    "aten::_scaled_dot_product_cudnn_attention": _cudnn,
    "aten::_scaled_dot_product_cudnn_attention_backward": _cudnn_backward,
}


@lru_cache(maxsize=512)
def equivalent_of(operator: Any) -> Callable[..., Any] | None:
    """What runs in place of an operator that the CPU has no kernel for; None where nothing is known."""
    schema = operator._schema
    name = f"{schema.name}.{schema.overload_name}" if schema.overload_name else schema.name
    return _MADE.get(name) or decompositions().get(operator)
