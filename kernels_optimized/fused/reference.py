"""The fused operations as chains of PyTorch's own: what their kernels are held to, and what runs without them.

``silu_mul`` and ``norm_activate`` are the model's own.

Suffixes: R packed rows, D model width, H query heads, K KV heads, E head size, T query rows, S merged KV rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bagel_perf.subjects.bagel.model.contracts import LayerCache
from bagel_perf.subjects.bagel.model.decoder import RmsNorm, rotate, silu_mul
from bagel_perf.subjects.bagel.model.primitives import norm_activate
from kernels_optimized.fused.heads import pack_heads
from kernels_optimized.fused.rows import PackedRows

__all__ = ["add_norm", "norm_activate", "norm_and_rotate", "silu_mul"]


def add_norm(
    x_RD: Tensor, update_RD: Tensor | None, gen: RmsNorm, und: RmsNorm, num_gen: int, rows_R: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """x + update (x without one) and its norm, bf16 [R, D]; with ``rows_R`` row i is normed into row rows_R[i]."""
    if update_RD is not None:
        x_RD = x_RD + update_RD
    normed_RD = torch.cat([gen(x_RD[:num_gen]), und(x_RD[num_gen:])])
    if rows_R is None:
        return x_RD, normed_RD
    placed_RD = torch.empty_like(normed_RD)
    placed_RD[rows_R] = normed_RD
    return x_RD, placed_RD


def norm_and_rotate(
    qkv_RHE: Tensor,
    query_norms: tuple[RmsNorm, RmsNorm],
    key_norms: tuple[RmsNorm, RmsNorm],
    rows: PackedRows,
    merged: LayerCache,
) -> Tensor:
    """Queries bf16 [T, H, E] by branch, of bf16 [R, H + 2K, E]; keys and values go to their rows of ``merged``.

    Norms are (gen, und). Heads lie as ``rows.packs_heads`` has them.
    """
    num_kv_heads = merged.key_PKE.shape[1]
    num_heads = qkv_RHE.shape[1] - 2 * num_kv_heads
    q_RHE, k_RKE, v_RKE = qkv_RHE.split([num_heads, num_kv_heads, num_kv_heads], dim=1)
    q_THE = torch.empty_like(q_RHE, memory_format=torch.contiguous_format)
    q_THE[rows.query_rows_R] = _normed_and_rotated(q_RHE, query_norms, rows)
    if rows.packs_heads:
        q_THE = pack_heads(q_THE, num_kv_heads)
    merged.key_PKE[rows.kv_rows_R] = _normed_and_rotated(k_RKE, key_norms, rows)
    merged.value_PKE[rows.kv_rows_R] = v_RKE
    return q_THE


def _normed_and_rotated(x_RHE: Tensor, norms: tuple[RmsNorm, RmsNorm], rows: PackedRows) -> Tensor:
    gen, und = norms
    cos, sin = rows.cos_T1E[rows.query_rows_R], rows.sin_T1E[rows.query_rows_R]

    def rotated(x: Tensor) -> Tensor:
        return rotate(torch.cat([gen(x[: rows.num_gen]), und(x[rows.num_gen :])]), cos, sin).bfloat16()

    x_RHE = x_RHE.contiguous()
    exact_RHE = rotated(x_RHE.float())
    return exact_RHE if rows.exact_R is None else torch.where(rows.exact_R[:, None, None], exact_RHE, rotated(x_RHE))
