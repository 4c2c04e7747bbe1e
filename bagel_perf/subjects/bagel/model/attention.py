"""Attention behind one object, so that every variant runs the same kernel.

cuDNN is called once per segment with host-known slices: its variable-length entry point rebuilds its plan in every call
(42 ms a call on an H200 with torch 2.11) while the dense one reaches 600 TFLOP/s.

Suffixes: Q query rows, S KV rows, T rows of all queries, H query heads, K KV heads, E head size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bagel_perf.records.errors import EnvironmentUnfit
from bagel_perf.rules.torch_names import FLASH_ATTENTION
from bagel_perf.subjects.bagel.model.contracts import VarlenLengths
from bagel_perf.subjects.bagel.model.layout import Span

Backend = Literal["cudnn", "flash", "math"]

_SDPA = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION, "math": SDPBackend.MATH}


def default_backend(device: torch.device) -> Backend:
    """cuDNN on Hopper and later, flash on Ampere and later, else math.

    At 4098 queries by 13108 keys by 28 heads an H200 ran 600 TFLOP/s with cuDNN and 350 with torch's flash kernel.
    """
    if device.type != "cuda":
        return "math"
    major, _ = torch.cuda.get_device_capability(device)
    return "cudnn" if major >= 9 else "flash" if major >= 8 else "math"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Softmax attention with scale E^-0.5, bf16 in and out, fp32 inside.

    ``math`` computes in fp32 and rounds once, as the golden vectors were made; off CUDA torch picks the fp32 kernel.
    """

    backend: Backend
    on_cuda: bool

    def scope(self) -> AbstractContextManager[None]:
        """Selects the kernel for a whole stage; entered once, because a selection per call costs more than a launch."""
        return _select(_SDPA[self.backend]) if self.on_cuda else nullcontext()

    def heads_first(self, q_1HQE: Tensor, k_1KSE: Tensor, v_1KSE: Tensor, mask_QS: Tensor | None = None) -> Tensor:
        """Attention over [1, heads, rows, E]; ``mask_QS`` (bool) is True where a query may look."""
        if self.backend != "math":
            return F.scaled_dot_product_attention(q_1HQE, k_1KSE, v_1KSE, attn_mask=mask_QS, enable_gqa=True)
        group = q_1HQE.shape[1] // k_1KSE.shape[1]
        key, value = (t.float().repeat_interleave(group, dim=1) for t in (k_1KSE, v_1KSE))
        return F.scaled_dot_product_attention(q_1HQE.float(), key, value, attn_mask=mask_QS).to(q_1HQE.dtype)

    def full(self, q_QHE: Tensor, k_SKE: Tensor, v_SKE: Tensor) -> Tensor:
        """Every query sees every key; gives [Q, H, E]."""
        return _rows_first(self.heads_first(_heads_first(q_QHE), _heads_first(k_SKE), _heads_first(v_SKE)))

    def causal(self, q_QHE: Tensor, k_SKE: Tensor, v_SKE: Tensor) -> Tensor:
        """The last query sees every key, the one before it all but the last, and so on; gives [Q, H, E]."""
        num_queries, num_keys = q_QHE.shape[0], k_SKE.shape[0]
        if self.backend == "flash":
            offsets = [
                torch.arange(0, 2 * num, num, dtype=torch.int32, device=q_QHE.device) for num in (num_queries, num_keys)
            ]
            return _flash_varlen(q_QHE, k_SKE, v_SKE, offsets[0], offsets[1], num_queries, num_keys, causal=True)
        mask_QS = torch.ones(num_queries, num_keys, dtype=torch.bool, device=q_QHE.device).tril(num_keys - num_queries)
        return _rows_first(self.heads_first(_heads_first(q_QHE), _heads_first(k_SKE), _heads_first(v_SKE), mask_QS))

    def varlen(
        self,
        q_THE: Tensor,
        k_SKE: Tensor,
        v_SKE: Tensor,
        lengths: VarlenLengths,
        segments: tuple[tuple[Span, Span], ...],
    ) -> Tensor:
        """Segment i's queries see segment i's keys; gives [T, H, E].

        The flash kernel reads ``lengths``; the dense backends slice by ``segments``, the same facts on the host.
        """
        assert lengths.max_query == max(stop - start for (start, stop), _ in segments)
        assert lengths.max_kv == max(stop - start for _, (start, stop) in segments)
        if self.backend == "flash":
            offsets = (lengths.query_offsets, lengths.kv_offsets)
            return _flash_varlen(q_THE, k_SKE, v_SKE, *offsets, lengths.max_query, lengths.max_kv, causal=False)
        out_THE = torch.empty_like(q_THE)
        for (start, stop), (kv_start, kv_stop) in segments:
            out_THE[start:stop] = self.full(q_THE[start:stop], k_SKE[kv_start:kv_stop], v_SKE[kv_start:kv_stop])
        return out_THE


@contextmanager
def _select(backend: SDPBackend) -> Iterator[None]:
    with sdpa_kernel([backend]):
        yield


def _heads_first(x_RHE: Tensor) -> Tensor:
    return x_RHE.transpose(0, 1).unsqueeze(0)


def _rows_first(x_1HRE: Tensor) -> Tensor:
    return x_1HRE.squeeze(0).transpose(0, 1)


@cache
def _flash_attention() -> Any:
    operator = FLASH_ATTENTION.find()
    if operator is None:
        raise EnvironmentUnfit(
            f"torch {torch.__version__} has no {FLASH_ATTENTION}",
            value="--attention flash",
            remedy="take another --attention",
        )
    return operator.default


def _flash_varlen(
    q: Tensor, k: Tensor, v: Tensor, q_offsets: Tensor, kv_offsets: Tensor, max_q: int, max_kv: int, *, causal: bool
) -> Tensor:
    out: Tensor = _flash_attention()(q, k, v, q_offsets, kv_offsets, max_q, max_kv, 0.0, causal, False)[0]
    return out
