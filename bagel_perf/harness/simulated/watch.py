"""Looks into a call: sees each operator it is made of, the scalars that torch's argument parser reads included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bagel_perf.harness.simulated.verdicts import JUDGED_BY_INDICES, num_masks, verdict_on
from bagel_perf.schema.waits import Kind


class Watch(TorchDispatchMode):
    """Reports the waits of the operators that run in its context, all of whose tensors live on the device.

    ``reads`` is the kind under which scalar reads are reported. With ``reads_only`` nothing else is, since the
    caller has judged it.
    """

    def __init__(
        self,
        waits: Callable[[Kind, int], None],
        unjudged: set[str],
        *,
        reads: Kind = "scalar_read",
        reads_only: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._waits = waits
        self._unjudged = unjudged
        self._reads = reads
        self._reads_only = reads_only

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._judge(func, args)
        return func(*args, **(kwargs or {}))

    def _judge(self, operator: torch._ops.OpOverload, args: tuple[Any, ...]) -> None:
        name = operator._schema.name
        if name == "aten::_local_scalar_dense":
            self._waits(self._reads, 1)
        elif self._reads_only:
            return
        elif name in JUDGED_BY_INDICES:
            self._waits(JUDGED_BY_INDICES[name], num_masks(args[1]))
        else:
            verdict = verdict_on(operator)
            if verdict.kind is not None:
                self._waits(verdict.kind, 1)
            if not verdict.is_sure or (name == "aten::_unique2" and any(args[2:])):
                self._unjudged.add(str(operator))
