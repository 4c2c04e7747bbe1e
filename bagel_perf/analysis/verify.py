"""Golden tensors in groups: the worst error of each, measured against its limit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from bagel_perf.schema.runs import TensorCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorGroup:
    """Tensors that play the same part, of which ``worst`` comes nearest to its limit or exceeds it most."""

    name: str
    num_tensors: int
    worst: TensorCheck
    ok: bool


def tensor_groups(checks: Iterable[TensorCheck]) -> tuple[TensorGroup, ...]:
    """The groups in the order of their first tensors."""
    members: dict[str, list[TensorCheck]] = {}
    for check in checks:
        members.setdefault(group_name(check.tensor), []).append(check)
    return tuple(
        TensorGroup(
            name=name,
            num_tensors=len(group),
            worst=max(group, key=_share_of_limit),
            ok=all(check.ok for check in group),
        )
        for name, group in members.items()
    )


def group_name(tensor: str) -> str:
    """The part a golden tensor plays: ``i2i.main.k.0`` is in the KV cache, ``t2i_global.v.3`` a velocity ``v``."""
    parts = [part for part in tensor.split(".") if not part.isdigit()]
    if len(parts) == 3:
        return "kv cache" if parts[2] in ("k", "v") else parts[1]
    return parts[-1] if parts else tensor


def _share_of_limit(check: TensorCheck) -> float:
    if math.isnan(check.error):
        return math.inf
    if check.limit == 0:
        return math.inf if check.error > 0 else 0.0
    return check.error / check.limit
