"""GroupNorm and SiLU of the autoencoder as upstream under autocast: in fp32, each by PyTorch's own operator.

The encoder always takes these; for the decoder they are slot ``norm_activate`` of every bitwise rung.

Upstream's blocks are in ByteDance-Seed/Bagel's modeling/autoencoder.py.
Suffixes: C channels, H and W rows and columns, 1 for a batch of one.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bagel_perf.model.contracts import GroupNorm


def norm_activate(x_1CHW: Tensor, norm: GroupNorm, *, activate: bool) -> Tensor:
    """Normed and, with ``activate``, activated: fp32 [1, C, H, W]; does not wait."""
    normed_1CHW = F.group_norm(x_1CHW.float(), norm.num_groups, norm.weight, norm.bias, norm.eps)
    return F.silu(normed_1CHW, inplace=True) if activate else normed_1CHW
