"""SwiGLU's activation in one kernel."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

BLOCK = 512


@triton.jit
def _silu_mul(gate_up_ptr, out_ptr, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < width
    gate = tl.load(gate_up_ptr + row * 2 * width + column, mask=mask).to(tl.float32)
    up = tl.load(gate_up_ptr + row * 2 * width + width + column, mask=mask).to(tl.float32)
    silu = tl.div_rn(gate, 1.0 + libdevice.exp(-gate)).to(tl.bfloat16)
    tl.store(out_ptr + row * width + column, (silu.to(tl.float32) * up).to(tl.bfloat16), mask=mask)


def silu_mul(gate_up: Tensor) -> Tensor:
    """As ``reference.silu_mul``, bit for bit, for contiguous bf16 rows."""
    num_rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(num_rows, width)
    kernel: Any = _silu_mul[(num_rows, triton.cdiv(width, BLOCK))]
    kernel(gate_up, out, width, BLOCK=BLOCK, num_warps=4, enable_fp_fusion=False)
    return out
