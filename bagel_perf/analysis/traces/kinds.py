"""The kind of a wait, from the operators around it and the direction of the copy that it waited for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bagel_perf.analysis.traces.apis import Api
from bagel_perf.analysis.traces.table import DEVICE_TO_HOST, HOST_TO_DEVICE, NONE, Ints, Mask
from bagel_perf.schema.rules import recorded_names
from bagel_perf.schema.waits import KINDS, Kind

_SCALAR_READS = {"aten::item", *recorded_names("scalar_read")}
_SCATTERS = {"aten::masked_scatter_", *recorded_names("mask_scatter")}
_GATHERS = recorded_names("mask_gather")
_DYNAMIC_SHAPES = recorded_names("nonzero")
_UNIQUE = ("aten::unique", "aten::_unique")


def kinds_of(levels: Ints, api: Ints, direction: Ints, pageable: Mask, names: Sequence[str]) -> Ints:
    """A number into ``KINDS`` for each wait.

    ``levels`` are the operators around each wait as numbers into ``names``, [waits, depths], NONE where there is none.
    """
    known: dict[bytes, int] = {}
    kinds = np.empty(len(levels), np.int64)
    keys = np.column_stack([levels, api, direction, pageable])
    for i, key in enumerate(keys):
        packed = key.tobytes()
        if packed not in known:
            operators = tuple(names[name] for name in levels[i] if name != NONE)
            known[packed] = KINDS.index(kind_of(operators, Api(api[i]), int(direction[i]), pageable=bool(pageable[i])))
        kinds[i] = known[packed]
    return kinds


def kind_of(operators: Sequence[str], api: Api, direction: int, *, pageable: bool) -> Kind:
    """The kind of a wait inside ``operators``, outermost first; ``direction`` is the copy's, NONE without one."""
    around = set(operators)
    if around & _SCALAR_READS:
        return "scalar_read"
    if around & _DYNAMIC_SHAPES or any(name.startswith(_UNIQUE) for name in around):
        return "mask_scatter" if around & _SCATTERS else "mask_gather" if around & _GATHERS else "nonzero"
    if "aten::masked_select" in around:
        return "mask_gather"
    if direction == DEVICE_TO_HOST:
        return "d2h_copy"
    if direction == HOST_TO_DEVICE and (pageable or around):
        return "pageable_upload"
    # Names without a namespace are annotations of older traces, not operators.
    if api != Api.WAIT_COPY and not any("::" in name for name in around):
        return "explicit_sync"
    return "unknown"
