"""CUDA's operators of attention by name, made of ordinary ones.

Written from the definition: softmax(q k^T * scale + bias) v, in float32 and cast back. Random numbers of dropout are
CUDA's own, so dropout is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bagel_perf.simulated.patches import NotSimulated

# Shapes: B batch, H heads, L queries, S keys, E elements of a head.


def _softmax(
    query_BHLE: Tensor, key_BHSE: Tensor, bias: Tensor | None, diagonal: int | None, factor: float
) -> tuple[Tensor, Tensor]:
    """Weights [B, H, L, S] and the log of the softmax's sums [B, H, L], both in float32.

    Keys above the ``diagonal`` are masked, if there is one.
    """
    scores_BHLS = query_BHLE.float() @ key_BHSE.float().transpose(-2, -1) * factor
    if bias is not None:
        scores_BHLS = scores_BHLS + bias.float()
    if diagonal is not None:
        allowed_LS = torch.ones(scores_BHLS.shape[-2:], dtype=torch.bool).tril(diagonal)
        scores_BHLS = scores_BHLS.masked_fill(~allowed_LS, -math.inf)
    sums_BHL = scores_BHLS.logsumexp(-1)
    return (scores_BHLS - sums_BHL.unsqueeze(-1)).exp().nan_to_num(0.0), sums_BHL


def _factor(query: Tensor, scale: float | None) -> float:
    return 1 / math.sqrt(query.shape[-1]) if scale is None else scale


def _attention(
    query_BHLE: Tensor,
    key_BHSE: Tensor,
    value_BHSE: Tensor,
    bias: Tensor | None,
    diagonal: int | None,
    scale: float | None,
) -> tuple[Tensor, Tensor]:
    """Output [B, H, L, E] in the type of the query, and the log of the softmax's sums [B, H, L] in float32."""
    weights_BHLS, sums_BHL = _softmax(query_BHLE, key_BHSE, bias, diagonal, _factor(query_BHLE, scale))
    return (weights_BHLS @ value_BHSE.float()).to(query_BHLE.dtype), sums_BHL


def _from_start(is_causal: bool) -> int | None:
    """The first query sees the first key: efficient attention's and cuDNN's way."""
    return 0 if is_causal else None


def _to_end(is_causal: bool, query: Tensor, key: Tensor) -> int | None:
    """The last query sees the last key: flash attention's way."""
    return key.shape[-2] - query.shape[-2] if is_causal else None


def _no_dropout(name: str, dropout_p: float) -> None:
    if dropout_p:
        raise NotSimulated(f"aten.{name} with dropout", "its random numbers are CUDA's own")


def _empty(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.empty(shape, dtype=dtype)


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
    output, sums = _attention(query, key, value, None, _to_end(is_causal, query, key), scale)
    return (
        output,
        sums,
        None,
        None,
        query.shape[-2],
        key.shape[-2],
        _empty(2, dtype=torch.uint64),
        _empty(dtype=torch.uint64),
        query.new_empty(0),
    )


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
    output, sums = _attention(query, key, value, attn_bias, _from_start(is_causal), scale)
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
    output, sums = _attention(query, key, value, attn_bias, _from_start(is_causal), scale)
    kept = sums.unsqueeze(-1) if compute_log_sumexp else sums.new_empty(0)
    return output, kept, None, None, query.shape[-2], key.shape[-2], _empty(), _empty(), query.new_empty(0)


def _gradients(
    grad_BHLE: Tensor, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, diagonal: Any, scale: Any
) -> tuple[Tensor, ...]:
    """Of query, key, value and, where there is one, of the bias. Runs below autograd, so by hand."""
    factor = _factor(query, scale)
    weights_BHLS, _ = _softmax(query, key, bias, diagonal, factor)
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
    return _gradients(grad_out, query, key, value, None, _to_end(rest[7], query, key), scale)


def _efficient_backward(
    grad_out: Tensor, query: Tensor, key: Tensor, value: Tensor, bias: Any, *rest: Any, scale: float | None = None
) -> tuple[Tensor | None, ...]:
    """Rest: out, logsumexp, two random states, dropout_p, which gradients are wanted, is_causal."""
    _no_dropout("_scaled_dot_product_efficient_attention_backward", rest[4])
    is_causal = bool(rest[6]) if len(rest) > 6 else False
    gradients = _gradients(grad_out, query, key, value, bias, _from_start(is_causal), scale)
    return (*gradients, *(None,) * (4 - len(gradients)))


def _cudnn_backward(
    grad_out: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any, scale: float | None = None
) -> tuple[Tensor, ...]:
    """Rest: out, logsumexp, two random states, attn_bias, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal."""
    _no_dropout("_scaled_dot_product_cudnn_attention_backward", rest[9])
    return _gradients(grad_out, query, key, value, rest[4], _from_start(rest[10]), scale)[:3]


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
    return output, sums, _empty(2, dtype=torch.uint64), _empty(dtype=torch.uint64), query.new_empty(0)


def _attention_of(query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scale: float | None) -> tuple[Any, Any]:
    query, key, value = (one.transpose(-3, -2) for one in (query, key, value))
    output, sums = _attention(query, key, value, None, _to_end(is_causal, query, key), scale)
    return output.transpose(-3, -2).contiguous(), sums


def _efficient_of_sequences(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    cu_seqlens_q: Tensor | None,
    cu_seqlens_k: Tensor | None,
    max_seqlen_q: int | None,
    max_seqlen_k: int | None,
    dropout_p: float,
    custom_mask_type: int,
    compute_log_sumexp: bool = False,
    *,
    scale: float | None = None,
    **more: Any,
) -> tuple[Any, ...]:
    """Heads come behind positions here. Mask types: none, from the first key on, to the last key."""
    name = "_efficient_attention_forward"
    _no_dropout(name, dropout_p)
    if cu_seqlens_q is not None or any(value is not None for value in more.values()):
        raise NotSimulated(f"aten.{name} of packed sequences or with a window", "call it with one sequence a row")
    query, key, value = (one.transpose(-3, -2) for one in (query, key, value))
    diagonal = (None, 0, key.shape[-2] - query.shape[-2])[custom_mask_type]
    output, sums = _attention(query, key, value, bias, diagonal, scale)
    kept = sums if compute_log_sumexp else sums[..., :0]
    return output.transpose(-3, -2).contiguous(), kept, _empty(), _empty(), query.shape[-2], key.shape[-2]


OPERATORS: dict[str, Callable[..., Any]] = {
    "aten::_flash_attention_forward": _flash_of_sequences,
    "aten::_efficient_attention_forward": _efficient_of_sequences,
    "aten::_scaled_dot_product_flash_attention": _flash,
    "aten::_scaled_dot_product_flash_attention_backward": _flash_backward,
    "aten::_scaled_dot_product_efficient_attention": _efficient,
    "aten::_scaled_dot_product_efficient_attention_backward": _efficient_backward,
    "aten::_scaled_dot_product_cudnn_attention": _cudnn,
    "aten::_scaled_dot_product_cudnn_attention_backward": _cudnn_backward,
}
